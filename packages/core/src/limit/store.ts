import type { RatePolicy } from "./algorithms/policy.ts";
import type { Verdict } from "./algorithms/verdict.ts";

/** What a store needs to know of a limit. One frozen object per limit, so that a store may remember it by identity. */
export interface LimitRule {
  /** The name; state belongs to (name, key). */
  readonly name: string;
  readonly policy: RatePolicy;
}

/**
 * Where the state of limits lives. Each operation is atomic, and time is the store's own: no caller passes one in.
 * A store that is at hand answers at once, one that is far away with a promise; callers must take both.
 *
 * A store decides exactly as `algorithms/` does, to the microsecond: `storeConformance` of `@sluice/core/testing` says so.
 * A failure is thrown (or rejected) as a `SluiceError` of family `store`, and never becomes a verdict.
 */
export interface LimitStore {
  /** Debits `cost`, a whole number of at least 1, if the limit admits it now; else changes nothing. */
  consume(rule: LimitRule, key: string, cost: number): Verdict | PromiseLike<Verdict>;
  /** What `consume` would answer; `remaining` and `resetAtUs` are those of the key as it stands. Changes nothing. */
  peek(rule: LimitRule, key: string, cost: number): Verdict | PromiseLike<Verdict>;
  /** Makes the whole capacity of a key available, as if it had never been used. */
  reset(rule: LimitRule, key: string): void | PromiseLike<void>;
  /** Lets go of what the store holds. Every later call fails with `closed`. */
  close(): void | PromiseLike<void>;
}

/** Whether `value` can serve as a store: for reading options. */
export function isLimitStore(value: unknown): value is LimitStore {
  if (typeof value !== "object" || value === null) return false;
  const { consume, peek, reset, close } = value as Partial<LimitStore>;
  return [consume, peek, reset, close].every((operation) => typeof operation === "function");
}
