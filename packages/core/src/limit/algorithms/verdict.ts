/**
 * What an algorithm answers to one request, in whole microseconds of the clock it was asked with.
 *
 * Of the request itself: `allowed` now; if not, whether it can ever be (`never`) and how long until it would be, if nobody
 * else asks. Of the key after this request: what remains, and when it will be as if it had never been used.
 */
export interface Verdict {
  /** Whether the request is admitted. Only then did it consume anything. */
  readonly allowed: boolean;
  /** Whether the cost is above the capacity, so that no waiting helps. */
  readonly never: boolean;
  /** The largest cost that would be admitted now: a whole number from 0 to the capacity. */
  readonly remaining: number;
  /**
   * How long until this cost would be admitted: 0 when it was, Infinity when `never`, else at least 1. Exact: one
   * microsecond earlier it is still denied.
   */
  readonly retryAfterUs: number;
  /** The instant from which the whole capacity is available again; the present when it is so now. */
  readonly resetAtUs: number;
  /** The cost that was debited; 0 when nothing was: a denial, a peek, or a draw held up by others of its group. */
  readonly granted: number;
  /**
   * The instant the debit is booked under, which `settle` finds it by: its entry of the log (sliding window); the present,
   * held at the start of the window (fixed window); the present (token bucket, concurrency, and when nothing was debited).
   */
  readonly atUs: number;
  /** The fence of the lease that was given, above every earlier one of the key; 0 when none was. */
  readonly fence: number;
  /**
   * How the answer came about when the store could not be asked: set by a store that guards another one, absent
   * otherwise, which means "normal".
   */
  readonly mode?: DecisionMode;
}

/** How a decision came about: by the store, or without it because it failed. */
export type DecisionMode = "normal" | "open" | "closed" | "local";

/** What a verdict said was debited, by which a debit is corrected: `verdict.atUs` and `verdict.granted`. */
export interface Charge {
  readonly atUs: number;
  readonly cost: number;
  /** The mode of the verdict, for a store that guards another one; absent means "normal". */
  readonly mode?: DecisionMode;
}

/**
 * The state to keep from now on, and the answer. The state given in is spent: go on with this one.
 *
 * A denial leaves the state as it was given, the same object, so that a store has nothing to write; only when it had to be set
 * right after the clock was set back far is it another one.
 */
export interface Outcome<State> {
  /** Undefined for a key that goes on as if it had never been used. */
  readonly state: State | undefined;
  readonly verdict: Verdict;
}

/** How long a cost that has others ahead of it must wait at the least. */
export interface WaitBound {
  /** The cost, never above the capacity, to look up: its `retryAfterUs` is the first part of the wait. */
  readonly probe: number;
  /** What comes on top, in microseconds. */
  readonly extraUs: number;
}
