import type { Policy } from "./algorithms/policy.ts";
import type { Charge, Verdict } from "./algorithms/verdict.ts";
import type { Decision } from "./decision.ts";

/** A store's answer: at once from one at hand, by promise from one far away. Callers take both. */
export type Answer<Value> = Value | PromiseLike<Value>;

/** What a store needs to know of a limit. One frozen object per limit, so that a store may remember it by identity. */
export interface LimitRule {
  /** The name; state belongs to (name, key). */
  readonly name: string;
  readonly policy: Policy;
}

/** One part of a decision over several limits. */
export interface Draw {
  readonly rule: LimitRule;
  readonly key: string;
  /** A whole number of at least 1. */
  readonly cost: number;
}

/**
 * Where the state of limits lives. Each operation is atomic, and time is the store's own: no caller passes one in.
 *
 * A store decides exactly as `algorithms/key-state.ts` does, to the microsecond: `storeConformance` of
 * `@sluice/core/testing` says so. A failure is thrown (or rejected) as a `SluiceError` of family `store`, and never becomes a
 * verdict. Costs are whole numbers of at least 1, keys of 0 to 512 characters: who calls a store has checked them.
 *
 * A rule of a known name with another rate takes the place of the old one and keeps what was consumed.
 */
export interface LimitStore {
  /** Debits `cost` if the limit admits it now; else changes nothing. */
  consume(rule: LimitRule, key: string, cost: number): Answer<Verdict>;
  /**
   * Debits the largest n of 1 to `most` that is admitted now: `verdict.granted`. Else changes nothing and denies as for
   * cost 1. Not for concurrency.
   */
  consumeUpTo(rule: LimitRule, key: string, most: number): Answer<Verdict>;
  /**
   * One decision over several limits, all or nothing. The verdicts come in the order of the draws. When all are admissible
   * all are debited; else nothing changes anywhere: a draw that would pass by itself then has `allowed: true` with
   * `granted: 0`, and those that refuse have each its own exact `retryAfterUs`.
   * @param draws At least one; each (rule, key) comes once.
   */
  consumeAll(draws: readonly Draw[]): Answer<readonly Verdict[]>;
  /** What `consume` would answer; `remaining` and `resetAtUs` are those of the key as it stands. Changes nothing. */
  peek(rule: LimitRule, key: string, cost: number): Answer<Verdict>;
  /**
   * Corrects a debit to what was used. Less than `charge.cost` gives back what of it is still in the state; more debits the
   * rest, even into debt, which is at most what a period is worth. Not for concurrency.
   * @param actual A whole number of at least 0.
   */
  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Answer<void>;
  /**
   * Admits nothing on a key for `forUs` microseconds from now, whatever its budget. The later of two blocks holds; 0 lifts
   * it.
   * @param forUs From 0 to 24 hours; more counts as 24 hours.
   */
  block(rule: LimitRule, key: string, forUs: number): Answer<void>;
  /** Concurrency: extends a lease to a full term from now. Its new expiry, or undefined when it is no longer held. */
  renew(rule: LimitRule, key: string, fence: number): Answer<number | undefined>;
  /** Concurrency: gives the slots of a lease back. False when it was no longer held. */
  release(rule: LimitRule, key: string, fence: number): Answer<boolean>;
  /** Makes the whole capacity of a key available, as if it had never been used, and lifts its block. */
  reset(rule: LimitRule, key: string): Answer<void>;
  /** Lets go of what the store holds. Every later call fails with `closed`. */
  close(): Answer<void>;
}

const operations: readonly (keyof LimitStore)[] = [
  "consume",
  "consumeUpTo",
  "consumeAll",
  "peek",
  "settle",
  "block",
  "renew",
  "release",
  "reset",
  "close",
];

/** Whether `value` can serve as a store: for reading options. */
export function isLimitStore(value: unknown): value is LimitStore {
  if (typeof value !== "object" || value === null) return false;
  return operations.every((operation) => typeof (value as Partial<LimitStore>)[operation] === "function");
}

/** Whether an answer is still to come. */
export function isLater<Value>(answer: Answer<Value>): answer is PromiseLike<Value> {
  return typeof answer === "object" && answer !== null && "then" in answer;
}

/** What is done with an answer when it is there: at once when it is. */
export function whenAnswered<Value, Result>(
  answer: Answer<Value>,
  then: (value: Value) => Answer<Result>,
): Answer<Result> {
  return isLater(answer) ? answer.then(then) : then(answer);
}

/** The keys of one limit in a store at hand. */
export interface NearTable {
  /** Whether the table was closed or replaced, and takes no more calls: open the limit again. */
  readonly isRetired: boolean;
  /**
   * `consume`, dressed as the decision that callers get: one object and no promise for the commonest call of all.
   * @throws `invalid_key`: only here a store checks keys, those that are new to it; the empty one is the limit's own.
   */
  decide(key: string, cost: number): Decision;
}

/** A store at hand: it answers every call at once. */
export interface NearStore extends LimitStore {
  /** The keys of one limit. */
  open(rule: LimitRule): NearTable;
  consume(rule: LimitRule, key: string, cost: number): Verdict;
  consumeUpTo(rule: LimitRule, key: string, most: number): Verdict;
  consumeAll(draws: readonly Draw[]): readonly Verdict[];
  peek(rule: LimitRule, key: string, cost: number): Verdict;
  settle(rule: LimitRule, key: string, charge: Charge, actual: number): void;
  block(rule: LimitRule, key: string, forUs: number): void;
  renew(rule: LimitRule, key: string, fence: number): number | undefined;
  release(rule: LimitRule, key: string, fence: number): boolean;
  reset(rule: LimitRule, key: string): void;
  close(): void;
}

/** Whether a store is at hand. */
export function isNearStore(store: LimitStore): store is NearStore {
  return typeof (store as Partial<NearStore>).open === "function";
}
