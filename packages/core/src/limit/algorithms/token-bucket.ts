/**
 * Token bucket, as the generic cell rate algorithm (GCRA): "virtual scheduling" of ITU-T I.371 (1993), Annex A, and of
 * the ATM Forum's Traffic Management 4.0. A bucket of `capacity` tokens gains one every emission interval
 * E = period / limit; instead of counting tokens it keeps one instant, the theoretical arrival time (TAT), at which the
 * bucket will be full again.
 *
 *     admit `cost` at now  ⇔  max(TAT, now) + cost·E ≤ now + capacity·E,   and then TAT := the left side
 *
 * - Any-window bound: in any window of length W, at most capacity + rate·W. With capacity 1, strict pacing: never more
 *   than `limit` in any half-open window of one period, evenly spaced, no bursts.
 * - State: one instant.
 * - Good for: long-run rates with a stated burst, millions of keys, pacing. Costs: with a burst, a window may hold up to
 *   capacity + limit.
 *
 * Exactness. E is a fraction of microseconds (3 per 10 s: 3 333 333⅓), so the TAT carries a numerator over the fixed
 * denominator `parts`: no rate drifts, however long it runs. All numbers are whole and below 2^53, which
 * {@link tokenBucketPolicy} checks once. The clock reads whole microseconds: a reading stands for the microsecond that
 * begins there, so an admission due at 333⅓ happens at 334, and its successor is still due E after 333⅓. That makes
 * the bound, precisely: cost(i..j) < capacity + rate·(t_j − t_i + 1 µs).
 *
 * A clock that steps back finds the TAT further ahead than any admission could have put it. For up to a period the
 * schedule simply stands, so that a reading which arrives out of order mints nothing. Beyond that the bucket becomes "empty,
 * as of now": nothing is refunded, and nobody waits longer than it takes to fill.
 */
import { assert } from "../../base/assert.ts";
import { SluiceError } from "../../base/errors.ts";
import type { Rate } from "../../base/rate.ts";
import type { Charge, Outcome, Verdict, WaitBound } from "./verdict.ts";

/** The rule of one token bucket, checked and with its constants worked out. Made by {@link tokenBucketPolicy}. */
export interface TokenBucketPolicy {
  readonly algorithm: "token-bucket";
  readonly rate: Rate;
  /** The burst: the most cost admitted at one instant. */
  readonly capacity: number;
  /** How far ahead of the present {@link tokenBucketGrants} may grant, in microseconds. */
  readonly horizonUs: number;
  /** The denominator of all fractions of a microsecond below: `limit` reduced by what it shares with the period. */
  readonly parts: number;
  /** The emission interval E: `intervalUs + intervalPart / parts`. */
  readonly intervalUs: number;
  readonly intervalPart: number;
  /** The time an empty bucket takes to fill, capacity·E: `fillUs + fillPart / parts`. */
  readonly fillUs: number;
  readonly fillPart: number;
}

/** The theoretical arrival time, `tatUs + tatPart / parts`: from then on the bucket is full. */
export interface TokenBucketState {
  readonly tatUs: number;
  /** From 0 to `parts` − 1 of the policy; always 0 when E is whole. */
  readonly tatPart: number;
}

/** The options of {@link tokenBucketPolicy}. */
export interface TokenBucketOptions {
  /** The burst: a whole number from 1 to 10^9; default the limit of the rate. 1 is strict pacing. */
  readonly burst?: number;
  /** How far ahead grants may reach, in microseconds; default 0. */
  readonly horizonUs?: number;
}

/** The largest burst. */
const capacityMax = 1_000_000_000;
/** No bucket may take longer to fill: sums with an epoch in microseconds then stay below 2^53. */
const fillUsMax = 100 * 365 * 86_400_000_000;

/**
 * Checks a rate and burst and works out their constants.
 * @throws `invalid_option` when the burst is out of bounds, the bucket would take more than 100 years to fill, or the
 *   fractions of the rate times the burst exceed what can be kept exactly (a limit without common factors with its
 *   period, and limit × burst near 10^16).
 */
export function tokenBucketPolicy(rate: Rate, options: TokenBucketOptions = {}): TokenBucketPolicy {
  const { burst: capacity = rate.limit, horizonUs = 0 } = options;
  const shared = gcd(rate.periodUs, rate.limit);
  const parts = rate.limit / shared;
  const intervalPart = (rate.periodUs / shared) % parts;
  const intervalUs = (rate.periodUs / shared - intervalPart) / parts;

  if (!Number.isInteger(capacity) || capacity < 1 || capacity > capacityMax) {
    throw refused(`burst: expected a whole number from 1 to ${capacityMax}, got ${capacity}`);
  }
  if (!Number.isInteger(horizonUs) || horizonUs < 0 || horizonUs > fillUsMax) {
    throw refused(`horizonUs: expected whole microseconds up to 100 years, got ${horizonUs}`);
  }
  if (capacity * intervalUs > fillUsMax) {
    throw refused(`burst: ${capacity} at ${rate.text} takes more than 100 years to refill`);
  }
  // One unit beyond the capacity comes up in comparisons, and one more part in carrying.
  if ((capacity + 1) * intervalPart + parts > Number.MAX_SAFE_INTEGER) {
    throw refused(
      `burst: ${capacity} at ${rate.text} cannot be kept exactly; lower the burst or round the rate`,
    );
  }
  const overflow = (capacity * intervalPart) % parts;
  return Object.freeze({
    algorithm: "token-bucket",
    rate,
    capacity,
    horizonUs,
    parts,
    intervalUs,
    intervalPart,
    fillUs: capacity * intervalUs + (capacity * intervalPart - overflow) / parts,
    fillPart: overflow,
  });
}

/**
 * Decides one request of `cost`, a whole number of at least 1.
 * @param state Undefined for a key never used.
 */
export function tokenBucketConsume(
  state: TokenBucketState | undefined,
  nowUs: number,
  cost: number,
  policy: TokenBucketPolicy,
): Outcome<TokenBucketState> {
  const current = at(state, nowUs, policy);
  const next = cost > policy.capacity ? undefined : plus(current, cost, policy);
  if (next === undefined || isAfter(next, nowUs + policy.fillUs, policy.fillPart)) {
    const waitUs = next === undefined ? Infinity : ceil(minusFill(next, policy)) - nowUs;
    // Of a state that merely lies in the past there is nothing to set right.
    const kept = state === undefined || state.tatUs <= nowUs ? state : current;
    return { state: kept, verdict: denied(current, nowUs, waitUs, policy) };
  }
  return { state: next, verdict: { ...admitted(next, nowUs, policy), granted: cost } };
}

/** What {@link tokenBucketConsume} would answer, for the key as it stands: `remaining` and `resetAtUs` are before. */
export function tokenBucketPeek(
  state: TokenBucketState | undefined,
  nowUs: number,
  cost: number,
  policy: TokenBucketPolicy,
): Verdict {
  const { verdict } = tokenBucketConsume(state, nowUs, cost, policy);
  return verdict.allowed ? admitted(at(state, nowUs, policy), nowUs, policy) : verdict;
}

/**
 * Corrects a debit.
 *
 * Less than was charged gives tokens back, but no more than are certain to be missing because of the charge. Without it the
 * bucket might have been full when it was charged (its `atUs`, the instant of the debit), and would then have stayed so: what
 * has refilled since is not given back a second time. So the TAT moves back by min(given back·E, cost·E − (now − atUs)).
 * That is less than would be right for a bucket that is never full; a sliding window corrects debits exactly.
 *
 * More than was charged debits the rest now, into debt if need be, until at most one period beyond empty.
 * @returns The state after it; undefined for a full bucket.
 */
export function tokenBucketSettle(
  state: TokenBucketState | undefined,
  nowUs: number,
  { charge, actual }: { readonly charge: Charge; readonly actual: number },
  policy: TokenBucketPolicy,
): TokenBucketState | undefined {
  const current = at(state, nowUs, policy);
  if (actual > charge.cost) return indebted(current, actual - charge.cost, nowUs, policy);
  if (state === undefined || tokenBucketIsIdle(state, nowUs)) return undefined;
  // A charge beyond any schedule of the present was made before the clock was set back; the TAT knows nothing of it.
  if (charge.atUs > nowUs + policy.fillUs + policy.horizonUs) return current;
  const leftUs = charge.atUs - nowUs;
  const left = plus({ tatUs: Math.min(0, leftUs), tatPart: 0 }, charge.cost, policy);
  const back = plus({ tatUs: 0, tatPart: 0 }, charge.cost - actual, policy);
  const given = isAfter(back, left.tatUs, left.tatPart) ? left : back;
  if (given.tatUs < 0) return current;
  const next = minus(current, given, policy);
  return tokenBucketIsIdle(next, nowUs) ? undefined : next;
}

function indebted(
  state: TokenBucketState,
  extra: number,
  nowUs: number,
  policy: TokenBucketPolicy,
): TokenBucketState {
  const { limit, periodUs } = policy.rate;
  const debit = Math.min(extra, policy.capacity + limit);
  // A limit's worth takes a period, exactly; only what is left over has fractions.
  const rest = debit % limit;
  const whole = { tatUs: state.tatUs + ((debit - rest) / limit) * periodUs, tatPart: state.tatPart };
  const next = plusMany(whole, rest, policy);
  const deepestUs = nowUs + policy.fillUs + periodUs;
  const isTooDeep = isAfter(next, deepestUs, policy.fillPart);
  return isTooDeep ? { tatUs: deepestUs, tatPart: policy.fillPart } : next;
}

/** Whether the bucket is full, so that forgetting the state changes nothing. */
export function tokenBucketIsIdle(state: TokenBucketState, nowUs: number): boolean {
  // A fraction of the microsecond that ends here is not past yet, see `at`.
  return state.tatPart === 0 ? state.tatUs <= nowUs : ceil(state) < nowUs;
}

/** The least wait of a cost that is the last of `total`, all admitted in order: exact for this algorithm. */
export function tokenBucketWaitBound(total: number, policy: TokenBucketPolicy): WaitBound {
  const excess = Math.max(0, total - policy.capacity);
  return { probe: total - excess, extraUs: Math.floor((excess * policy.rate.periodUs) / policy.rate.limit) };
}

/** What {@link tokenBucketGrants} is asked for. */
export interface GrantRequest {
  /** How far ahead starts may lie: whole microseconds up to the policy's `horizonUs`. */
  readonly horizonUs: number;
  /** The most starts to grant. */
  readonly max: number;
}

/** Starts that were debited in advance. */
export interface Grants {
  /** The state after them. */
  readonly state: TokenBucketState;
  /** When each may start, in microseconds, ascending; none before the present. Empty when none is due in time. */
  readonly startsUs: readonly number[];
}

/**
 * Debits the starts of cost 1 that the schedule has from now to the end of the horizon, at most `max`. They are the
 * instants at which single requests would be admitted one after the other, and the state is the one those would leave:
 *
 *     TAT₀ = max(TAT, now)    TATᵢ = TAT₀ + i·E    startᵢ = max(now, ⌈TATᵢ − (capacity − 1)·E⌉)
 *
 * A start that is not used is forfeited: under-use, never over-use.
 */
export function tokenBucketGrants(
  state: TokenBucketState | undefined,
  nowUs: number,
  request: GrantRequest,
  policy: TokenBucketPolicy,
): Grants {
  assert(request.horizonUs <= policy.horizonUs, "grants reach beyond the horizon of the policy");
  const lastUs = nowUs + request.horizonUs;
  const startsUs: number[] = [];
  let current = at(state, nowUs, policy);
  while (startsUs.length < request.max) {
    const next = plus(current, 1, policy);
    const startUs = Math.max(nowUs, ceil(minusFill(next, policy)));
    if (startUs > lastUs) break;
    startsUs.push(startUs);
    current = next;
  }
  return { state: current, startsUs };
}

/** The state as of `nowUs`: TAT₀, the later of TAT and the present, set right if the clock has stepped back far. */
function at(state: TokenBucketState | undefined, nowUs: number, policy: TokenBucketPolicy): TokenBucketState {
  // A TAT within the microsecond that ends here is not past yet: dropping its fraction would let the schedule drift.
  if (state === undefined || ceil(state) < nowUs) return { tatUs: nowUs, tatPart: 0 };
  const emptyUs = nowUs + policy.fillUs + policy.horizonUs;
  if (state.tatUs > emptyUs + policy.rate.periodUs) return { tatUs: emptyUs, tatPart: policy.fillPart };
  return state;
}

function plus(state: TokenBucketState, cost: number, policy: TokenBucketPolicy): TokenBucketState {
  const sum = state.tatPart + cost * policy.intervalPart;
  // Not Math.floor(sum / parts): the quotient of two large numbers may round up to the next whole one.
  const tatPart = sum % policy.parts;
  return { tatUs: state.tatUs + cost * policy.intervalUs + (sum - tatPart) / policy.parts, tatPart };
}

/**
 * {@link plus} for a count below the limit but perhaps above the capacity, whose product with a part may exceed 2^53: 15 bits
 * of the count at a time.
 */
function plusMany(state: TokenBucketState, count: number, policy: TokenBucketPolicy): TokenBucketState {
  const low = count % 32_768;
  const high = (count - low) / 32_768;
  const highParts = high * policy.intervalPart;
  const highRest = highParts % policy.parts;
  const lowParts = state.tatPart + highRest * 32_768 + low * policy.intervalPart;
  const tatPart = lowParts % policy.parts;
  const carriedUs = ((highParts - highRest) / policy.parts) * 32_768 + (lowParts - tatPart) / policy.parts;
  return { tatUs: state.tatUs + count * policy.intervalUs + carriedUs, tatPart };
}

/** The instant at which a request that brings the TAT to `next` is due. */
function minusFill(next: TokenBucketState, policy: TokenBucketPolicy): TokenBucketState {
  return minus(next, { tatUs: policy.fillUs, tatPart: policy.fillPart }, policy);
}

function minus(a: TokenBucketState, b: TokenBucketState, policy: TokenBucketPolicy): TokenBucketState {
  const tatPart = a.tatPart - b.tatPart;
  const tatUs = a.tatUs - b.tatUs;
  return tatPart < 0 ? { tatUs: tatUs - 1, tatPart: tatPart + policy.parts } : { tatUs, tatPart };
}

function ceil(state: TokenBucketState): number {
  return state.tatPart > 0 ? state.tatUs + 1 : state.tatUs;
}

function isAfter(state: TokenBucketState, us: number, part: number): boolean {
  return state.tatUs > us || (state.tatUs === us && state.tatPart > part);
}

function admitted(state: TokenBucketState, nowUs: number, policy: TokenBucketPolicy): Verdict {
  return {
    allowed: true,
    never: false,
    remaining: tokensAt(state, nowUs, policy),
    retryAfterUs: 0,
    resetAtUs: Math.max(nowUs, ceil(state)),
    granted: 0,
    atUs: nowUs,
    fence: 0,
  };
}

function denied(state: TokenBucketState, nowUs: number, waitUs: number, policy: TokenBucketPolicy): Verdict {
  return {
    allowed: false,
    never: waitUs === Infinity,
    remaining: tokensAt(state, nowUs, policy),
    retryAfterUs: waitUs,
    resetAtUs: Math.max(nowUs, ceil(state)),
    granted: 0,
    atUs: nowUs,
    fence: 0,
  };
}

/** The whole tokens in the bucket: capacity − ⌈(TAT − now) / E⌉. */
function tokensAt(state: TokenBucketState, nowUs: number, policy: TokenBucketPolicy): number {
  if (!isAfter(state, nowUs, 0)) return policy.capacity;
  const { parts, capacity } = policy;
  const missingUs = state.tatUs - nowUs + state.tatPart / parts;
  let taken = Math.ceil(missingUs / (policy.intervalUs + policy.intervalPart / parts));
  if (taken > capacity + 1) return 0;
  // The floating quotient is right to within one; whole numbers decide which.
  const present = { tatUs: nowUs, tatPart: 0 };
  const covers = (tokens: number): boolean => {
    const full = plus(present, tokens, policy);
    return !isAfter(state, full.tatUs, full.tatPart);
  };
  while (!covers(taken)) taken++;
  while (taken > 0 && covers(taken - 1)) taken--;
  return Math.max(0, capacity - taken);
}

function gcd(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return x;
}

function refused(message: string): SluiceError {
  return new SluiceError("invalid_option", `token bucket: option ${message}`);
}
