/**
 * Additive increase, multiplicative decrease: the rule by which TCP finds its share of a line, for finding the rate that a
 * server admits but does not publish. Pure: state, event and time in, state out.
 *
 * - Each success adds `increase / limit`, so that a whole budget of successes adds `increase`, whatever the budget is.
 * - A refusal multiplies by `decrease`. What was under way then will be refused as well and says nothing new, so for `holdMs`
 *   afterwards neither successes nor refusals change anything.
 * - The limit never leaves `floor` to `ceiling`.
 */

/** The constants of the controller. */
export interface AimdPolicy {
  /** The least limit, of at least 1. */
  readonly floor: number;
  /** The largest limit. */
  readonly ceiling: number;
  /** What a whole budget of successes adds. */
  readonly increase: number;
  /** What a refusal multiplies by, between 0 and 1. */
  readonly decrease: number;
  /** How long a decrease stands before anything changes again, in milliseconds. */
  readonly holdMs: number;
}

/** What the controller remembers. */
export interface AimdState {
  /** The limit it has come to, with a fraction; in use is its whole part. */
  readonly limit: number;
  /** Until when a decrease stands, in milliseconds on the clock of the events. */
  readonly holdUntilMs: number;
}

/** Where the controller begins: at `limit`, brought between floor and ceiling. */
export function aimdStart(limit: number, policy: AimdPolicy): AimdState {
  return { limit: within(limit, policy), holdUntilMs: Number.NEGATIVE_INFINITY };
}

/** The server admitted a request. */
export function aimdSuccess(state: AimdState, nowMs: number, policy: AimdPolicy): AimdState {
  if (nowMs < state.holdUntilMs) return state;
  const limit = within(state.limit + policy.increase / state.limit, policy);
  return limit === state.limit ? state : { ...state, limit };
}

/** The server refused a request for its rate. */
export function aimdRefusal(state: AimdState, nowMs: number, policy: AimdPolicy): AimdState {
  if (nowMs < state.holdUntilMs) return state;
  return { limit: within(state.limit * policy.decrease, policy), holdUntilMs: nowMs + policy.holdMs };
}

function within(limit: number, { floor, ceiling }: AimdPolicy): number {
  return Math.min(Math.max(limit, floor), ceiling);
}
