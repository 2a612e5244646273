/**
 * All that can be done to one key of a limit, as pure functions of its state and the present: the specification of a store.
 * `consumeAll` is in here too, as the one operation over several keys.
 *
 * Every store must answer exactly so, and `storeConformance` compares it with this over random histories. It is written to be
 * read; stores have faster ways.
 */
import { assert } from "../../base/assert.ts";
import { type Block, blockAt, blockedVerdict, blockFor } from "./block.ts";
import {
  type ConcurrencyState,
  concurrencyConsume,
  concurrencyIsIdle,
  concurrencyPeek,
  concurrencyRelease,
  concurrencyRenew,
} from "./concurrency.ts";
import {
  type Policy,
  type RatePolicy,
  type RateState,
  rateConsume,
  rateConsumeUpTo,
  rateIsIdle,
  ratePeek,
  rateSettle,
  type Settlement,
} from "./policy.ts";
import type { Verdict } from "./verdict.ts";

/** What is kept of one key; both parts undefined for a key that is as if it had never been used. */
export interface KeyState {
  readonly budget: RateState | ConcurrencyState | undefined;
  readonly block: Block | undefined;
}

/** The state to keep from now on, and the answer. */
export interface KeyOutcome {
  readonly state: KeyState;
  readonly verdict: Verdict;
}

/** A key never used. */
export const unusedKey: KeyState = Object.freeze({ budget: undefined, block: undefined });

/** Debits `cost` if it is admitted now. */
export function keyConsume(key: KeyState, nowUs: number, cost: number, policy: Policy): KeyOutcome {
  const block = blockAt(key.block, nowUs);
  if (block !== undefined) return refusedBy(block, key, nowUs, { cost, policy });
  const { state, verdict } =
    policy.algorithm === "concurrency"
      ? concurrencyConsume(key.budget as ConcurrencyState | undefined, nowUs, cost, policy)
      : rateConsume(key.budget as RateState | undefined, nowUs, cost, policy);
  return { state: { budget: state, block }, verdict };
}

/** Debits the largest n of 1 to `most` that is admitted now; else denies as for cost 1. */
export function keyConsumeUpTo(key: KeyState, nowUs: number, most: number, policy: Policy): KeyOutcome {
  const block = blockAt(key.block, nowUs);
  if (block !== undefined) return refusedBy(block, key, nowUs, { cost: 1, policy });
  const rate = rateOnly(policy);
  const { state, verdict } = rateConsumeUpTo(key.budget as RateState | undefined, nowUs, most, rate);
  return { state: { budget: state, block }, verdict };
}

/** What {@link keyConsume} would answer, for the key as it stands. */
export function keyPeek(key: KeyState, nowUs: number, cost: number, policy: Policy): Verdict {
  const verdict =
    policy.algorithm === "concurrency"
      ? concurrencyPeek(key.budget as ConcurrencyState | undefined, nowUs, cost, policy)
      : ratePeek(key.budget as RateState | undefined, nowUs, cost, policy);
  const block = blockAt(key.block, nowUs);
  return block === undefined ? verdict : blockedVerdict(verdict, nowUs, block);
}

/** One part of {@link keysConsumeAll}. */
export interface KeyDraw {
  readonly key: KeyState;
  readonly cost: number;
  readonly policy: Policy;
}

/** One decision over several keys, all or nothing; the outcomes come in the order of the draws. */
export function keysConsumeAll(draws: readonly KeyDraw[], nowUs: number): readonly KeyOutcome[] {
  const seen = draws.map(({ key, cost, policy }) => ({
    state: key,
    verdict: keyPeek(key, nowUs, cost, policy),
  }));
  if (!seen.every(({ verdict }) => verdict.allowed)) return seen;
  return draws.map(({ key, cost, policy }) => keyConsume(key, nowUs, cost, policy));
}

/** Corrects a debit. */
export function keySettle(key: KeyState, nowUs: number, settlement: Settlement, policy: Policy): KeyState {
  const budget = rateSettle(key.budget as RateState | undefined, nowUs, settlement, rateOnly(policy));
  return { budget, block: key.block };
}

/** Blocks the key for `forUs` from now; 0 lifts the block. */
export function keyBlock(key: KeyState, nowUs: number, forUs: number): KeyState {
  return { budget: key.budget, block: blockFor(key.block, nowUs, forUs) };
}

/** Extends a lease of a concurrency limit; `expiresAtUs` is undefined when it is no longer held. */
export function keyRenew(
  key: KeyState,
  nowUs: number,
  fence: number,
  policy: Policy,
): { readonly state: KeyState; readonly expiresAtUs: number | undefined } {
  assert(policy.algorithm === "concurrency", "only leases of a concurrency limit are renewed");
  const budget = key.budget as ConcurrencyState | undefined;
  const { state, lease } = concurrencyRenew(budget, nowUs, fence, policy);
  return { state: { budget: state, block: key.block }, expiresAtUs: lease?.expiresAtUs };
}

/** Gives the slots of a lease back; `released` is false when it was no longer held. */
export function keyRelease(
  key: KeyState,
  nowUs: number,
  fence: number,
  policy: Policy,
): { readonly state: KeyState; readonly released: boolean } {
  assert(policy.algorithm === "concurrency", "only leases of a concurrency limit are released");
  const budget = key.budget as ConcurrencyState | undefined;
  const { state, released } = concurrencyRelease(budget, nowUs, fence, policy);
  return { state: { budget: state, block: key.block }, released };
}

/** Whether the key is as if it had never been used, so that its state may be forgotten. */
export function keyIsIdle(key: KeyState, nowUs: number, policy: Policy): boolean {
  if (blockAt(key.block, nowUs) !== undefined) return false;
  if (key.budget === undefined) return true;
  return policy.algorithm === "concurrency"
    ? concurrencyIsIdle(key.budget as ConcurrencyState, nowUs)
    : rateIsIdle(key.budget as RateState, nowUs, policy);
}

function refusedBy(
  block: Block,
  key: KeyState,
  nowUs: number,
  { cost, policy }: { readonly cost: number; readonly policy: Policy },
): KeyOutcome {
  return {
    state: { budget: key.budget, block },
    verdict: keyPeek({ budget: key.budget, block }, nowUs, cost, policy),
  };
}

function rateOnly(policy: Policy): RatePolicy {
  assert(
    policy.algorithm !== "concurrency",
    "a concurrency limit has slots, which are released, not settled",
  );
  return policy;
}
