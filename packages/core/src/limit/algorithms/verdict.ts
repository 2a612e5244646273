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
}

/** The state to keep from now on, and the answer. The state given in is spent: go on with this one. */
export interface Outcome<State> {
  readonly state: State;
  readonly verdict: Verdict;
}

/** How long a cost that has others ahead of it must wait at the least. */
export interface WaitBound {
  /** The cost, never above the capacity, to look up: its `retryAfterUs` is the first part of the wait. */
  readonly probe: number;
  /** What comes on top, in microseconds. */
  readonly extraUs: number;
}
