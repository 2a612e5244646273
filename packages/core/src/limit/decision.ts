import { SluiceError } from "../base/errors.ts";
import type { DecisionMode, Verdict } from "./algorithms/verdict.ts";

/**
 * The answer of a limit to one request. A denial is an answer like any other: nothing is thrown for it.
 * Times are milliseconds with a fraction, exact to the microsecond.
 */
export interface Decision {
  /** Whether the request was admitted. A request that was not has consumed nothing. */
  readonly allowed: boolean;
  /** Whether the cost is above the limit's capacity, so that no waiting helps. */
  readonly never: boolean;
  /** The largest cost that would be admitted now, after this request. */
  readonly remaining: number;
  /** How long until this cost would be admitted if nobody else asks: 0 when it was, Infinity when `never`. */
  readonly retryAfterMs: number;
  /** When the whole capacity is available again, in milliseconds since the epoch on the store's clock. */
  readonly resetAt: number;
  /** The name of the limit. */
  readonly limit: string;
  /** Whose budget it was; empty for the limit's own. */
  readonly key: string;
  /** What was asked for. */
  readonly cost: number;
  /** The names of the limits that refused; empty when allowed. */
  readonly violated: readonly string[];
  /** How it came about: "normal" by the store; else without it because it failed, see `guarded`. */
  readonly mode: DecisionMode;
}

/** What was asked: of which limit, by which key, for how much. */
export interface Question {
  readonly limit: string;
  readonly key: string;
  readonly cost: number;
}

/** The `violated` of every decision that was allowed. */
export const noneViolated: readonly string[] = Object.freeze([]);

/** Dresses the verdict of a store as the answer to a caller. */
export function decisionOf(verdict: Verdict, { limit, key, cost }: Question): Decision {
  return {
    allowed: verdict.allowed,
    never: verdict.never,
    remaining: verdict.remaining,
    retryAfterMs: verdict.retryAfterUs / 1000,
    resetAt: verdict.resetAtUs / 1000,
    limit,
    key,
    cost,
    violated: verdict.allowed ? noneViolated : [limit],
    mode: verdict.mode ?? "normal",
  };
}

/**
 * A denial as an error, for code that would rather throw: `tryAcquire(1, { throws: true })`, or
 * `if (!decision.allowed) throw new RateLimitExceeded(decision)`. Code `rate_limited`; the decision is on it.
 */
export class RateLimitExceeded extends SluiceError {
  /** The answer that became this error. */
  readonly decision: Decision;

  constructor(decision: Decision) {
    const { violated, limit, key, cost, retryAfterMs } = decision;
    const whose = key === "" ? "" : ` for ${JSON.stringify(key)}`;
    const who = `limit "${violated.join('", "') || limit}"`;
    const when = decision.never ? "never admits this cost" : `retry after ${retryAfterMs} ms`;
    super("rate_limited", `${who} refused cost ${cost}${whose}: ${when}`, {
      details: { limit, key, cost, violated, retryAfterMs: decision.never ? null : retryAfterMs },
    });
    this.decision = decision;
  }

  /** How long until the same request would be admitted, in milliseconds; Infinity when it never would. */
  get retryAfterMs(): number {
    return this.decision.retryAfterMs;
  }

  static {
    const name = { value: "RateLimitExceeded", writable: true, configurable: true };
    Object.defineProperty(RateLimitExceeded.prototype, "name", name);
  }
}
