/**
 * Sliding window, exact: the log of admissions. A request is admitted when it and the admissions of the last period
 * together stay within the limit.
 *
 *     admit `cost` at now  ⇔  cost + Σ cost of admissions in (now − period, now]  ≤  limit
 *
 * - Any-window bound: never more than `limit` in any half-open window of one period. Exactly.
 * - State: an instant and a running sum per admission of the last period, so at most 2·`limit` numbers, fewer when costs
 *   are above 1. Every decision takes O(log n).
 * - Good for: keeping a third party's "N per minute" to the letter while using all of it. Costs: memory for large limits.
 *
 * The log is append-only and shared: a state is a view on it (first, end), as a slice is in Go. Appending to the newest
 * view extends the array in place; appending to an older one copies, so older states stay what they were.
 *
 * A clock that steps back by up to a period is held at the last admission. After a larger step the log moves back with the
 * clock, as if no time had passed since that admission: nothing is refunded, and nobody waits longer than a period.
 */
import { SluiceError } from "../../base/errors.ts";
import type { Rate } from "../../base/rate.ts";
import type { Outcome, Verdict, WaitBound } from "./verdict.ts";

/** The rule of one sliding window. Made by {@link slidingWindowPolicy}. */
export interface SlidingWindowPolicy {
  readonly algorithm: "sliding-window";
  readonly rate: Rate;
  /** The limit of the rate. */
  readonly capacity: number;
}

/** The admissions that may still count: entries `first` to `end` − 1 of the log. */
export interface SlidingWindowState {
  /** Two numbers an entry: when it was admitted, and the cost admitted up to and including it. */
  readonly log: number[];
  readonly first: number;
  readonly end: number;
}

/** The largest limit of a sliding window: a log of 16 MB for one key that is used to the full. */
export const slidingWindowLimitMax: number = 1_000_000;

/** @throws `invalid_option` when the limit is above {@link slidingWindowLimitMax}. */
export function slidingWindowPolicy(rate: Rate): SlidingWindowPolicy {
  if (rate.limit > slidingWindowLimitMax) {
    throw new SluiceError(
      "invalid_option",
      `sliding window: option rate: expected a limit of at most ${slidingWindowLimitMax}, since each admission is kept; ` +
        `got ${rate.text}; algorithm "token-bucket" has no such bound`,
    );
  }
  return Object.freeze({ algorithm: "sliding-window", rate, capacity: rate.limit });
}

/**
 * Decides one request of `cost`, a whole number of at least 1.
 * @param state Undefined for a key never used.
 */
export function slidingWindowConsume(
  state: SlidingWindowState | undefined,
  nowUs: number,
  cost: number,
  policy: SlidingWindowPolicy,
): Outcome<SlidingWindowState> {
  const current = rebased(state, nowUs, policy);
  const window = windowAt(current, nowUs, policy);
  if (window.used + cost > policy.capacity) {
    return { state: current, verdict: denied(window, nowUs, cost, policy) };
  }
  const next = appended(window, cost);
  const verdict = admitted(policy.capacity - window.used - cost, window.nowUs + policy.rate.periodUs);
  return { state: next, verdict };
}

/** What {@link slidingWindowConsume} would answer, for the key as it stands: `remaining` and `resetAtUs` are before. */
export function slidingWindowPeek(
  state: SlidingWindowState | undefined,
  nowUs: number,
  cost: number,
  policy: SlidingWindowPolicy,
): Verdict {
  const window = windowAt(rebased(state, nowUs, policy), nowUs, policy);
  if (window.used + cost > policy.capacity) return denied(window, nowUs, cost, policy);
  return admitted(policy.capacity - window.used, resetAt(window, nowUs, policy));
}

/** Whether the last admission has left the window, so that forgetting the state changes nothing. */
export function slidingWindowIsIdle(
  state: SlidingWindowState,
  nowUs: number,
  policy: SlidingWindowPolicy,
): boolean {
  return state.first === state.end || timeOf(state.log, state.end - 1) + policy.rate.periodUs <= nowUs;
}

/** The least wait of a cost that is the last of `total`, all admitted in order; exact when all cost 1. */
export function slidingWindowWaitBound(total: number, policy: SlidingWindowPolicy): WaitBound {
  // Unit j + limit must come at least one period after unit j.
  const rounds = Math.ceil(total / policy.capacity) - 1;
  return { probe: total - rounds * policy.capacity, extraUs: rounds * policy.rate.periodUs };
}

/** The part of the log that counts at one instant. */
interface Window {
  readonly log: number[];
  readonly first: number;
  readonly end: number;
  /** The present, held at the last admission if the clock reads less. */
  readonly nowUs: number;
  /** The cost admitted in the window. */
  readonly used: number;
}

function windowAt(state: SlidingWindowState, readingUs: number, policy: SlidingWindowPolicy): Window {
  const { log, end } = state;
  if (state.first === end) return { log, first: end, end, nowUs: readingUs, used: 0 };
  const nowUs = Math.max(readingUs, timeOf(log, end - 1));
  const edgeUs = nowUs - policy.rate.periodUs;
  const first = search(state.first, end, (entry) => timeOf(log, entry) > edgeUs);
  return { log, first, end, nowUs, used: sumUpTo(log, end) - sumUpTo(log, first) };
}

function denied(window: Window, readingUs: number, cost: number, policy: SlidingWindowPolicy): Verdict {
  const { log, first, end, used } = window;
  const never = cost > policy.capacity;
  // The first entry with whose leaving enough has left.
  const surplus = used + cost - policy.capacity;
  const enough = sumUpTo(log, first) + surplus;
  const leaving = never ? end : search(first, end, (entry) => sumUpTo(log, entry + 1) >= enough);
  return {
    allowed: false,
    never,
    remaining: policy.capacity - used,
    retryAfterUs: never ? Infinity : timeOf(log, leaving) + policy.rate.periodUs - readingUs,
    resetAtUs: resetAt(window, readingUs, policy),
  };
}

function admitted(remaining: number, resetAtUs: number): Verdict {
  return { allowed: true, never: false, remaining, retryAfterUs: 0, resetAtUs };
}

function resetAt(window: Window, readingUs: number, policy: SlidingWindowPolicy): number {
  return window.used === 0 ? readingUs : timeOf(window.log, window.end - 1) + policy.rate.periodUs;
}

/** The window with one more admission, as a state. */
function appended(window: Window, cost: number): SlidingWindowState {
  const { log, first, end, nowUs, used } = window;
  if (first === end) return { log: [nowUs, cost], first: 0, end: 1 };
  const isNewest = log.length === 2 * end;
  // Half of the log has left the window: copying the other half costs no more than appending it did.
  const isStale = first >= 32 && first > end - first;
  if (isNewest && !isStale) {
    log.push(nowUs, sumUpTo(log, end) + cost);
    return { log, first, end: end + 1 };
  }
  const offset = sumUpTo(log, first);
  const live = log.slice(2 * first, 2 * end);
  for (let i = 1; i < live.length; i += 2) live[i]! -= offset;
  live.push(nowUs, used + cost);
  return { log: live, first: 0, end: live.length / 2 };
}

function rebased(
  state: SlidingWindowState | undefined,
  nowUs: number,
  policy: SlidingWindowPolicy,
): SlidingWindowState {
  if (state === undefined) return { log: [], first: 0, end: 0 };
  if (state.first === state.end) return state;
  const aheadUs = timeOf(state.log, state.end - 1) - nowUs;
  if (aheadUs <= policy.rate.periodUs) return state;
  const log = state.log.slice(0, 2 * state.end);
  for (let i = 0; i < log.length; i += 2) log[i]! -= aheadUs;
  return { log, first: state.first, end: state.end };
}

function timeOf(log: readonly number[], entry: number): number {
  return log[2 * entry]!;
}

/** The cost of all entries before `entry`. */
function sumUpTo(log: readonly number[], entry: number): number {
  return entry === 0 ? 0 : log[2 * entry - 1]!;
}

/** The first of `from` to `to` − 1 for which `holds`, which stays true once it is; `to` when there is none. */
function search(from: number, to: number, holds: (entry: number) => boolean): number {
  let [low, high] = [from, to];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
