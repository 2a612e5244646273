import { SluiceError } from "../../base/errors.ts";
import type { Rate } from "../../base/rate.ts";
import type { ConcurrencyPolicy } from "./concurrency.ts";
import {
  type FixedWindowPolicy,
  type FixedWindowState,
  fixedWindowConsume,
  fixedWindowIsIdle,
  fixedWindowPeek,
  fixedWindowPolicy,
  fixedWindowSettle,
  fixedWindowWaitBound,
  type WindowAlignment,
} from "./fixed-window.ts";
import {
  type SlidingWindowPolicy,
  type SlidingWindowState,
  slidingWindowConsume,
  slidingWindowIsIdle,
  slidingWindowPeek,
  slidingWindowPolicy,
  slidingWindowSettle,
  slidingWindowWaitBound,
} from "./sliding-window.ts";
import {
  type TokenBucketPolicy,
  type TokenBucketState,
  tokenBucketConsume,
  tokenBucketIsIdle,
  tokenBucketPeek,
  tokenBucketPolicy,
  tokenBucketSettle,
  tokenBucketWaitBound,
} from "./token-bucket.ts";
import type { Charge, Outcome, Verdict, WaitBound } from "./verdict.ts";

/** The rule of one rate limit, whatever its algorithm. Plain frozen data: a store may send it elsewhere. */
export type RatePolicy = TokenBucketPolicy | SlidingWindowPolicy | FixedWindowPolicy;

/** The state of one key under a {@link RatePolicy}. Meaningful only with a policy of the algorithm that made it. */
export type RateState = TokenBucketState | SlidingWindowState | FixedWindowState;

/** The rule of any limit. */
export type Policy = RatePolicy | ConcurrencyPolicy;

/** The algorithms a rate can be kept by. */
export type RateAlgorithm = RatePolicy["algorithm"];

/** What a {@link RatePolicy} is made of besides the rate. */
export interface RatePolicyOptions {
  readonly algorithm: RateAlgorithm;
  /** For the token bucket only; default the limit of the rate. */
  readonly burst?: number | undefined;
  /** For the fixed window only; default `calendar`. */
  readonly align?: WindowAlignment | undefined;
}

/** @throws `invalid_option` when the algorithm cannot keep this rate, or an option belongs to another algorithm. */
export function ratePolicy(rate: Rate, options: RatePolicyOptions): RatePolicy {
  const { algorithm, burst, align } = options;
  if (burst !== undefined && algorithm !== "token-bucket")
    throw misplaced("burst", "token-bucket", algorithm);
  if (align !== undefined && algorithm !== "fixed-window")
    throw misplaced("align", "fixed-window", algorithm);
  switch (algorithm) {
    case "token-bucket":
      return tokenBucketPolicy(rate, burst === undefined ? {} : { burst });
    case "sliding-window":
      return slidingWindowPolicy(rate);
    case "fixed-window":
      return fixedWindowPolicy(rate, align === undefined ? {} : { align });
  }
}

/**
 * Decides one request of `cost`, a whole number of at least 1, by the algorithm of the policy.
 * @param state Undefined for a key never used; else what the last call under this policy returned.
 */
export function rateConsume(
  state: RateState | undefined,
  nowUs: number,
  cost: number,
  policy: RatePolicy,
): Outcome<RateState> {
  switch (policy.algorithm) {
    case "token-bucket":
      return tokenBucketConsume(state as TokenBucketState | undefined, nowUs, cost, policy);
    case "sliding-window":
      return slidingWindowConsume(state as SlidingWindowState | undefined, nowUs, cost, policy);
    case "fixed-window":
      return fixedWindowConsume(state as FixedWindowState | undefined, nowUs, cost, policy);
  }
}

/** What {@link rateConsume} would answer, for the key as it stands. */
export function ratePeek(
  state: RateState | undefined,
  nowUs: number,
  cost: number,
  policy: RatePolicy,
): Verdict {
  switch (policy.algorithm) {
    case "token-bucket":
      return tokenBucketPeek(state as TokenBucketState | undefined, nowUs, cost, policy);
    case "sliding-window":
      return slidingWindowPeek(state as SlidingWindowState | undefined, nowUs, cost, policy);
    case "fixed-window":
      return fixedWindowPeek(state as FixedWindowState | undefined, nowUs, cost, policy);
  }
}

/** Debits the largest n of 1 to `most` that is admitted now (`verdict.granted`), else denies as for cost 1. */
export function rateConsumeUpTo(
  state: RateState | undefined,
  nowUs: number,
  most: number,
  policy: RatePolicy,
): Outcome<RateState> {
  const { remaining } = ratePeek(state, nowUs, 1, policy);
  return rateConsume(state, nowUs, Math.max(1, Math.min(most, remaining)), policy);
}

/** What a debit is corrected by. */
export interface Settlement {
  /** What was debited: the `atUs` and `granted` of its verdict. */
  readonly charge: Charge;
  /** What was used: a whole number of at least 0. */
  readonly actual: number;
}

/**
 * Corrects a debit to what was used: gives back what of it is still in the state, or debits the rest, into debt if need be,
 * which is at most what a period is worth.
 * @returns The state after it; undefined when the key is as if it had never been used.
 */
export function rateSettle(
  state: RateState | undefined,
  nowUs: number,
  settlement: Settlement,
  policy: RatePolicy,
): RateState | undefined {
  switch (policy.algorithm) {
    case "token-bucket":
      return tokenBucketSettle(state as TokenBucketState | undefined, nowUs, settlement, policy);
    case "sliding-window":
      return slidingWindowSettle(state as SlidingWindowState | undefined, nowUs, settlement, policy);
    case "fixed-window":
      return fixedWindowSettle(state as FixedWindowState | undefined, nowUs, settlement, policy);
  }
}

/**
 * The state of a key whose limit gets another policy: what was consumed stays consumed (RL11). Windows keep what they
 * counted. A bucket keeps how many tokens are missing, as far as the new one can hold them, and so does a key whose
 * algorithm changes.
 * @returns Undefined when nothing was missing.
 */
export function rateConvert(
  state: RateState,
  nowUs: number,
  from: RatePolicy,
  to: RatePolicy,
): RateState | undefined {
  if (from.algorithm === to.algorithm && from.algorithm !== "token-bucket") return state;
  const missing = from.capacity - ratePeek(state, nowUs, 1, from).remaining;
  if (missing === 0) return undefined;
  return rateConsume(undefined, nowUs, Math.min(missing, to.capacity), to).state;
}

/** Whether the key is as if it had never been used, so that its state may be forgotten. */
export function rateIsIdle(state: RateState, nowUs: number, policy: RatePolicy): boolean {
  switch (policy.algorithm) {
    case "token-bucket":
      return tokenBucketIsIdle(state as TokenBucketState, nowUs);
    case "sliding-window":
      return slidingWindowIsIdle(state as SlidingWindowState, nowUs, policy);
    case "fixed-window":
      return fixedWindowIsIdle(state as FixedWindowState, nowUs, policy);
  }
}

/** The least wait of a cost that is the last of `total`, all admitted in order. */
export function waitBound(total: number, policy: Policy): WaitBound {
  switch (policy.algorithm) {
    case "concurrency":
      // Slots may all be released at any moment.
      return { probe: Math.min(total, policy.capacity), extraUs: 0 };
    case "token-bucket":
      return tokenBucketWaitBound(total, policy);
    case "sliding-window":
      return slidingWindowWaitBound(total, policy);
    case "fixed-window":
      return fixedWindowWaitBound(total, policy);
  }
}

function misplaced(option: string, owner: RateAlgorithm, algorithm: RateAlgorithm): SluiceError {
  const message = `option ${option}: belongs to algorithm "${owner}", but the limit uses "${algorithm}"`;
  return new SluiceError("invalid_option", message);
}
