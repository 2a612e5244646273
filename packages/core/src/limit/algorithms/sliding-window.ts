/**
 * Sliding window: the log of admissions. A request is admitted when it and the admissions of the last period together stay
 * within the limit.
 *
 *     admit `cost` at now  ⇔  cost + Σ cost of entries in (now − period, now]  ≤  limit
 *
 * - Any-window bound: never more than `limit` in any half-open window of one period. Exactly.
 * - State: an instant and a cost for each entry of the log.
 * - Good for: keeping a third party's "N per minute" to the letter while using all of it. Costs: memory, up to 1000 entries.
 *
 * Cells. Up to a limit of 1000 each admission is an entry of its own instant (`cellUs` is 1). Above that the log is kept in
 * cells of a hundredth of the period, so that it never has more than about 101 entries: an admission is entered at the last
 * microsecond of its cell, together with the others there. As it counts from when it was, but until a period after its
 * cell ended, the bound stays exact; what is lost is at most a hundredth of the budget.
 *
 * A clock that steps back by up to a period is held at the last admission (at the beginning of its cell). After a larger step
 * the log moves back with the clock, as if no time had passed since that admission: nothing is refunded, and nobody waits
 * longer than a period and a cell.
 */
import type { Rate } from "../../base/rate.ts";
import type { Charge, Outcome, Verdict, WaitBound } from "./verdict.ts";

/** The rule of one sliding window. Made by {@link slidingWindowPolicy}. */
export interface SlidingWindowPolicy {
  readonly algorithm: "sliding-window";
  readonly rate: Rate;
  /** The limit of the rate. */
  readonly capacity: number;
  /** The width of the cells of the log in microseconds; 1 for a log of exact instants. */
  readonly cellUs: number;
}

/** One entry of the log: the cost admitted in a cell, and the cell's last microsecond. */
export interface SlidingWindowEntry {
  readonly atUs: number;
  readonly cost: number;
}

/** The entries that may still count, oldest first, with rising instants. */
export interface SlidingWindowState {
  readonly entries: readonly SlidingWindowEntry[];
}

/** The largest limit whose log has an entry for every instant. */
export const exactLogLimitMax: number = 1_000;
/** How many cells a period has above that. */
const cellsPerPeriod = 100;

/** Any rate will do. */
export function slidingWindowPolicy(rate: Rate): SlidingWindowPolicy {
  const cellUs = rate.limit <= exactLogLimitMax ? 1 : Math.ceil(rate.periodUs / cellsPerPeriod);
  return Object.freeze({ algorithm: "sliding-window", rate, capacity: rate.limit, cellUs });
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
  const window = windowAt(state, nowUs, policy);
  if (window.used + cost > policy.capacity) {
    return { state: window.log, verdict: denied(window, nowUs, cost, policy) };
  }
  const next = entered(window, cost, policy);
  const { atUs } = next.entries.at(-1)!;
  const remaining = policy.capacity - window.used - cost;
  const verdict = admitted(remaining, nowUs, atUs + policy.rate.periodUs);
  return { state: next, verdict: { ...verdict, granted: cost, atUs } };
}

/** What {@link slidingWindowConsume} would answer, for the key as it stands: `remaining` and `resetAtUs` are before. */
export function slidingWindowPeek(
  state: SlidingWindowState | undefined,
  nowUs: number,
  cost: number,
  policy: SlidingWindowPolicy,
): Verdict {
  const window = windowAt(state, nowUs, policy);
  if (window.used + cost > policy.capacity) return denied(window, nowUs, cost, policy);
  return admitted(policy.capacity - window.used, nowUs, resetAt(window, nowUs, policy));
}

/**
 * Corrects a debit. Less than was charged gives back while the entry of the charge (its `atUs`) is in the window; more enters the
 * rest at the present, into debt if need be, until the window holds at most twice the limit.
 */
export function slidingWindowSettle(
  state: SlidingWindowState | undefined,
  nowUs: number,
  { charge, actual }: { readonly charge: Charge; readonly actual: number },
  policy: SlidingWindowPolicy,
): SlidingWindowState {
  const window = windowAt(state, nowUs, policy);
  const extra = actual - charge.cost;
  if (extra > 0) {
    const debit = Math.min(extra, 2 * policy.capacity - window.used);
    return debit > 0 ? entered(window, debit, policy) : { entries: window.entries };
  }
  const entries = window.entries
    .map(({ atUs, cost }) => ({ atUs, cost: atUs === charge.atUs ? Math.max(0, cost + extra) : cost }))
    .filter(({ cost }) => cost > 0);
  return { entries };
}

/** Whether the last admission has left the window, so that forgetting the state changes nothing. */
export function slidingWindowIsIdle(
  state: SlidingWindowState,
  nowUs: number,
  policy: SlidingWindowPolicy,
): boolean {
  const last = state.entries.at(-1);
  return last === undefined || last.atUs + policy.rate.periodUs <= nowUs;
}

/** The least wait of a cost that is the last of `total`, all admitted in order; exact when all cost 1 and cells are 1 µs. */
export function slidingWindowWaitBound(total: number, policy: SlidingWindowPolicy): WaitBound {
  // Unit j + limit must come at least one period after unit j.
  const rounds = Math.ceil(total / policy.capacity) - 1;
  return { probe: total - rounds * policy.capacity, extraUs: rounds * policy.rate.periodUs };
}

/** What counts at one instant. */
interface Window {
  /** The state as it was given, unless it had to be set right. */
  readonly log: SlidingWindowState | undefined;
  readonly entries: readonly SlidingWindowEntry[];
  /** The present, held at the last admission if the clock reads less. */
  readonly heldUs: number;
  /** The sum of the entries. */
  readonly used: number;
}

function windowAt(state: SlidingWindowState | undefined, nowUs: number, policy: SlidingWindowPolicy): Window {
  if (state === undefined) return { log: undefined, entries: [], heldUs: nowUs, used: 0 };
  const log = rebased(state, nowUs, policy);
  const last = log.entries.at(-1);
  // Not at the entry itself: that may lie ahead, and a present ahead of time would let others leave the window early.
  const heldUs = last === undefined ? nowUs : Math.max(nowUs, last.atUs - policy.cellUs + 1);
  const entries = log.entries.filter(({ atUs }) => atUs > heldUs - policy.rate.periodUs);
  return { log, entries, heldUs, used: entries.reduce((sum, { cost }) => sum + cost, 0) };
}

/** The log set right after a clock was set back by more than a period: by whole cells, so that it stays on their grid. */
function rebased(state: SlidingWindowState, nowUs: number, policy: SlidingWindowPolicy): SlidingWindowState {
  const last = state.entries.at(-1);
  if (last === undefined) return state;
  const aheadUs = last.atUs - policy.cellUs + 1 - nowUs;
  if (aheadUs <= policy.rate.periodUs) return state;
  const shiftUs = aheadUs - (aheadUs % policy.cellUs);
  return { entries: state.entries.map(({ atUs, cost }) => ({ atUs: atUs - shiftUs, cost })) };
}

/** The window with one more admission, as a state. */
function entered(window: Window, cost: number, policy: SlidingWindowPolicy): SlidingWindowState {
  const { entries, heldUs } = window;
  const last = entries.at(-1);
  const cellEndUs = heldUs - (heldUs % policy.cellUs) + policy.cellUs - 1;
  if (last === undefined || cellEndUs > last.atUs)
    return { entries: [...entries, { atUs: cellEndUs, cost }] };
  return { entries: [...entries.slice(0, -1), { atUs: last.atUs, cost: last.cost + cost }] };
}

function denied(window: Window, nowUs: number, cost: number, policy: SlidingWindowPolicy): Verdict {
  const never = cost > policy.capacity;
  return {
    allowed: false,
    never,
    remaining: Math.max(0, policy.capacity - window.used),
    retryAfterUs: never ? Infinity : leavingAt(window, window.used + cost - policy.capacity, policy) - nowUs,
    resetAtUs: resetAt(window, nowUs, policy),
    granted: 0,
    atUs: nowUs,
    fence: 0,
  };
}

/** When entries of `surplus` together will have left the window. */
function leavingAt({ entries }: Window, surplus: number, policy: SlidingWindowPolicy): number {
  let staying = surplus;
  const enough = entries.find(({ cost }) => {
    staying -= cost;
    return staying <= 0;
  });
  return enough!.atUs + policy.rate.periodUs;
}

function admitted(remaining: number, nowUs: number, resetAtUs: number): Verdict {
  const nothing = { granted: 0, atUs: nowUs, fence: 0 };
  return { allowed: true, never: false, remaining, retryAfterUs: 0, resetAtUs, ...nothing };
}

function resetAt({ entries }: Window, nowUs: number, policy: SlidingWindowPolicy): number {
  const last = entries.at(-1);
  return last === undefined ? nowUs : last.atUs + policy.rate.periodUs;
}
