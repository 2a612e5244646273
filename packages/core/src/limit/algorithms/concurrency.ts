/**
 * Concurrency: at most `capacity` slots held at once, by leases that end by themselves and carry a fence, after
 * Gray & Cheriton, "Leases" (SOSP 1989), with the fencing tokens of Chubby (OSDI 2006).
 *
 * - Bound: at every instant the slots of unexpired leases are at most `capacity`. A holder that went on after its lease
 *   ran out is beyond any bound of time, which is why what it guards should check the fence.
 * - State: one record per lease, and the last fence ever given.
 * - Good for: what tolerates N at a time: connections, workers, tenants. Costs: holders must renew and release.
 *
 * Never a bare counter: a holder that dies would keep its slot for ever. A lease that ran out is gone for good, so a late
 * renewal cannot bring it back over the head of the next holder; releasing twice, or somebody else's lease, does nothing.
 * Fences only rise: one is the present in microseconds, or one more than the last if that is not less. So they rise even over
 * a state that was forgotten when its last lease ended.
 */
import { SluiceError } from "../../base/errors.ts";
import type { Outcome, Verdict } from "./verdict.ts";

/** The rule of one concurrency limit. Made by {@link concurrencyPolicy}. */
export interface ConcurrencyPolicy {
  readonly algorithm: "concurrency";
  /** The most slots held at once. */
  readonly capacity: number;
  /** How long a lease holds from when it was given or last renewed, in microseconds. */
  readonly leaseUs: number;
}

/** The right to hold `slots` until it expires. */
export interface Lease {
  /** Which holding this is: higher than that of every earlier lease under the same key. */
  readonly fence: number;
  readonly slots: number;
  readonly expiresAtUs: number;
}

/** The leases, oldest first, and the last fence given. */
export interface ConcurrencyState {
  readonly lastFence: number;
  readonly leases: readonly Lease[];
}

/** The outcome of a request for slots: with the lease when it was admitted. */
export interface ConcurrencyOutcome extends Outcome<ConcurrencyState> {
  readonly lease: Lease | undefined;
}

/** @throws `invalid_option` when capacity (1 to 10^9) or lease (1 ms to 10 years) are not whole numbers in bounds. */
export function concurrencyPolicy(capacity: number, leaseUs: number): ConcurrencyPolicy {
  requireWhole("capacity", capacity, 1, 1_000_000_000);
  requireWhole("leaseUs", leaseUs, 1_000, 10 * 365 * 86_400_000_000);
  return Object.freeze({ algorithm: "concurrency", capacity, leaseUs });
}

/**
 * Takes `slots`, a whole number of at least 1, under one lease. When denied, `retryAfterUs` is when enough leases will have
 * expired; a release may come sooner.
 * @param state Undefined for a key never used.
 */
export function concurrencyConsume(
  state: ConcurrencyState | undefined,
  nowUs: number,
  slots: number,
  policy: ConcurrencyPolicy,
): ConcurrencyOutcome {
  const current = liveAt(state, nowUs, policy);
  const free = policy.capacity - slotsHeld(current);
  if (slots > free) {
    const verdict = denied(current, nowUs, slots, policy);
    return { state: unlessSetRight(state, current), verdict, lease: undefined };
  }
  const lease = Object.freeze({
    // Not a mere count: it goes on rising after the state was forgotten, as long as the clock does.
    fence: Math.max(current.lastFence + 1, nowUs),
    slots,
    expiresAtUs: nowUs + policy.leaseUs,
  });
  const next = { lastFence: lease.fence, leases: [...current.leases, lease] };
  const given = { granted: slots, fence: lease.fence };
  return { state: next, verdict: { ...admitted(free - slots, next, nowUs), ...given }, lease };
}

/** What {@link concurrencyConsume} would answer, for the key as it stands. */
export function concurrencyPeek(
  state: ConcurrencyState | undefined,
  nowUs: number,
  slots: number,
  policy: ConcurrencyPolicy,
): Verdict {
  const current = liveAt(state, nowUs, policy);
  const remaining = policy.capacity - slotsHeld(current);
  if (slots > remaining) return denied(current, nowUs, slots, policy);
  return admitted(remaining, current, nowUs);
}

/**
 * Extends a lease to a full term from now.
 * @returns The new lease, or undefined when it has run out or was released: its holder must stop.
 */
export function concurrencyRenew(
  state: ConcurrencyState | undefined,
  nowUs: number,
  fence: number,
  policy: ConcurrencyPolicy,
): { readonly state: ConcurrencyState | undefined; readonly lease: Lease | undefined } {
  const current = liveAt(state, nowUs, policy);
  const held = current.leases.find((lease) => lease.fence === fence);
  if (held === undefined) return { state: unlessSetRight(state, current), lease: undefined };
  const renewed = Object.freeze({ ...held, expiresAtUs: nowUs + policy.leaseUs });
  const leases = current.leases.map((lease) => (lease === held ? renewed : lease));
  return { state: { lastFence: current.lastFence, leases }, lease: renewed };
}

/** Gives a lease back. `released` is false when it had run out, was released before, or never existed. */
export function concurrencyRelease(
  state: ConcurrencyState | undefined,
  nowUs: number,
  fence: number,
  policy: ConcurrencyPolicy,
): { readonly state: ConcurrencyState | undefined; readonly released: boolean } {
  const current = liveAt(state, nowUs, policy);
  const leases = current.leases.filter((lease) => lease.fence !== fence);
  if (leases.length === current.leases.length) {
    return { state: unlessSetRight(state, current), released: false };
  }
  return { state: { lastFence: current.lastFence, leases }, released: true };
}

/** Whether nobody holds a slot any more. */
export function concurrencyIsIdle(state: ConcurrencyState, nowUs: number): boolean {
  return state.leases.every(({ expiresAtUs }) => expiresAtUs <= nowUs);
}

/**
 * The state without leases that ran out. A clock that stepped back by more than a term would lengthen those left by as much;
 * they hold for a full term from now instead.
 */
function liveAt(
  state: ConcurrencyState | undefined,
  nowUs: number,
  policy: ConcurrencyPolicy,
): ConcurrencyState {
  if (state === undefined) return { lastFence: 0, leases: [] };
  const latestUs = nowUs + policy.leaseUs;
  const isRight = (lease: Lease): boolean =>
    lease.expiresAtUs > nowUs && lease.expiresAtUs <= latestUs + policy.leaseUs;
  if (state.leases.every(isRight)) return state;
  const leases = state.leases
    .filter((lease) => lease.expiresAtUs > nowUs)
    .map((lease) => (isRight(lease) ? lease : Object.freeze({ ...lease, expiresAtUs: latestUs })));
  return { lastFence: state.lastFence, leases };
}

/** What nothing was done to stays as it was given, unless leases in it were set right. */
function unlessSetRight(
  given: ConcurrencyState | undefined,
  current: ConcurrencyState,
): ConcurrencyState | undefined {
  return current.leases.every((lease) => given?.leases.includes(lease)) ? given : current;
}

function slotsHeld(state: ConcurrencyState): number {
  return state.leases.reduce((sum, lease) => sum + lease.slots, 0);
}

function lastExpiry(state: ConcurrencyState, nowUs: number): number {
  return state.leases.reduce((last, lease) => Math.max(last, lease.expiresAtUs), nowUs);
}

function admitted(remaining: number, state: ConcurrencyState, nowUs: number): Verdict {
  const resetAtUs = lastExpiry(state, nowUs);
  const nothing = { granted: 0, atUs: nowUs, fence: 0 };
  return { allowed: true, never: false, remaining, retryAfterUs: 0, resetAtUs, ...nothing };
}

function denied(state: ConcurrencyState, nowUs: number, slots: number, policy: ConcurrencyPolicy): Verdict {
  const never = slots > policy.capacity;
  // Below 0 when the capacity was lowered while slots were held.
  const free = policy.capacity - slotsHeld(state);
  return {
    allowed: false,
    never,
    remaining: Math.max(0, free),
    retryAfterUs: never ? Infinity : freeAt(state, slots - free) - nowUs,
    resetAtUs: lastExpiry(state, nowUs),
    granted: 0,
    atUs: nowUs,
    fence: 0,
  };
}

/** When leases of `slots` slots together will have run out. */
function freeAt(state: ConcurrencyState, slots: number): number {
  let missing = slots;
  const byExpiry = state.leases.toSorted((a, b) => a.expiresAtUs - b.expiresAtUs);
  const enough = byExpiry.find((lease) => {
    missing -= lease.slots;
    return missing <= 0;
  });
  return enough!.expiresAtUs;
}

function requireWhole(option: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new SluiceError(
    "invalid_option",
    `concurrency: option ${option}: expected a whole number from ${min} to ${max}, got ${value}`,
  );
}
