/**
 * Fixed window: a counter that starts anew every period.
 *
 * - Any-window bound: 2·`limit` (all of one window at its end, all of the next at its beginning).
 * - State: a counter and the start of its window.
 * - Good for: quotas that a bill or a provider counts by the calendar. Costs: the doubled bound, and everybody who was
 *   refused comes back at the same instant.
 *
 * Windows lie on the calendar, as multiples of the period since 1970 UTC, or begin with the first request after the last
 * one ended. A clock that steps back by up to a period finds the window still to come, and is held in it; after a larger step
 * the window moves to the present, on the calendar to its next boundary, with all it has counted. So nothing is refunded, and
 * nobody waits longer than two periods.
 */
import type { Rate } from "../../base/rate.ts";
import type { Charge, Outcome, Verdict, WaitBound } from "./verdict.ts";

/** Where windows begin: at multiples of the period since the epoch, or with the first request. */
export type WindowAlignment = "calendar" | "first-request";

/** The rule of one fixed window. Made by {@link fixedWindowPolicy}. */
export interface FixedWindowPolicy {
  readonly algorithm: "fixed-window";
  readonly rate: Rate;
  /** The limit of the rate. */
  readonly capacity: number;
  readonly align: WindowAlignment;
}

/** The window in which something was last admitted. */
export interface FixedWindowState {
  readonly startUs: number;
  /** The cost admitted in it. */
  readonly used: number;
}

/** Any rate will do. `align` defaults to `calendar`. */
export function fixedWindowPolicy(
  rate: Rate,
  options: { readonly align?: WindowAlignment } = {},
): FixedWindowPolicy {
  return Object.freeze({
    algorithm: "fixed-window",
    rate,
    capacity: rate.limit,
    align: options.align ?? "calendar",
  });
}

/**
 * Decides one request of `cost`, a whole number of at least 1.
 * @param state Undefined for a key never used.
 */
export function fixedWindowConsume(
  state: FixedWindowState | undefined,
  nowUs: number,
  cost: number,
  policy: FixedWindowPolicy,
): Outcome<FixedWindowState> {
  const window = windowAt(state, nowUs, policy);
  const used = window.used + cost;
  if (used > policy.capacity) {
    return { state: window.used > 0 ? window : state, verdict: denied(window, nowUs, cost, policy) };
  }
  const next = { startUs: window.startUs, used };
  const verdict = { ...admitted(next, nowUs, policy), granted: cost, atUs: Math.max(nowUs, next.startUs) };
  return { state: next, verdict };
}

/** What {@link fixedWindowConsume} would answer, for the key as it stands: `remaining` and `resetAtUs` are before. */
export function fixedWindowPeek(
  state: FixedWindowState | undefined,
  nowUs: number,
  cost: number,
  policy: FixedWindowPolicy,
): Verdict {
  const window = windowAt(state, nowUs, policy);
  if (window.used + cost > policy.capacity) return denied(window, nowUs, cost, policy);
  return admitted(window, nowUs, policy);
}

/**
 * Corrects a debit. Less than was charged gives back while the window that was charged (its `atUs` lies in it) lasts; more debits the rest
 * to the present window, into debt if need be, until at most twice the limit is used. Debts end with their window.
 */
export function fixedWindowSettle(
  state: FixedWindowState | undefined,
  nowUs: number,
  { charge, actual }: { readonly charge: Charge; readonly actual: number },
  policy: FixedWindowPolicy,
): FixedWindowState {
  const { startUs, used } = windowAt(state, nowUs, policy);
  const extra = actual - charge.cost;
  if (extra > 0) return { startUs, used: Math.max(used, Math.min(used + extra, 2 * policy.capacity)) };
  const isCharged = startUs <= charge.atUs && charge.atUs < startUs + policy.rate.periodUs;
  return { startUs, used: isCharged ? Math.max(0, used + extra) : used };
}

/** Whether the window is over or nothing was admitted in it, so that forgetting the state changes nothing. */
export function fixedWindowIsIdle(
  state: FixedWindowState,
  nowUs: number,
  policy: FixedWindowPolicy,
): boolean {
  return state.used === 0 || state.startUs + policy.rate.periodUs <= nowUs;
}

/** The least wait of a cost that is the last of `total`, all admitted in order; exact when all cost 1. */
export function fixedWindowWaitBound(total: number, policy: FixedWindowPolicy): WaitBound {
  const rounds = Math.ceil(total / policy.capacity) - 1;
  return { probe: total - rounds * policy.capacity, extraUs: rounds * policy.rate.periodUs };
}

/** The window that counts at one instant. */
function windowAt(
  state: FixedWindowState | undefined,
  nowUs: number,
  policy: FixedWindowPolicy,
): FixedWindowState {
  const { periodUs } = policy.rate;
  const onCalendar = policy.align === "calendar";
  const startUs = onCalendar ? nowUs - (nowUs % periodUs) : nowUs;
  // A window in which nothing was admitted has not begun: a denied request leaves no trace.
  if (state === undefined || fixedWindowIsIdle(state, nowUs, policy)) return { startUs, used: 0 };
  if (state.startUs - nowUs <= periodUs) return state;
  // On the calendar the present window may be about to end, and would make room for a third one within a period.
  return { startUs: onCalendar ? startUs + periodUs : startUs, used: state.used };
}

function admitted(window: FixedWindowState, nowUs: number, policy: FixedWindowPolicy): Verdict {
  return {
    allowed: true,
    never: false,
    remaining: policy.capacity - window.used,
    retryAfterUs: 0,
    resetAtUs: resetAt(window, nowUs, policy),
    granted: 0,
    atUs: nowUs,
    fence: 0,
  };
}

function denied(window: FixedWindowState, nowUs: number, cost: number, policy: FixedWindowPolicy): Verdict {
  const never = cost > policy.capacity;
  return {
    allowed: false,
    never,
    remaining: Math.max(0, policy.capacity - window.used),
    retryAfterUs: never ? Infinity : window.startUs + policy.rate.periodUs - nowUs,
    resetAtUs: resetAt(window, nowUs, policy),
    granted: 0,
    atUs: nowUs,
    fence: 0,
  };
}

function resetAt(window: FixedWindowState, nowUs: number, policy: FixedWindowPolicy): number {
  return window.used === 0 ? nowUs : window.startUs + policy.rate.periodUs;
}
