import { SluiceError } from "../../base/errors.ts";
import type { Rate } from "../../base/rate.ts";
import {
  type FixedWindowPolicy,
  type FixedWindowState,
  fixedWindowConsume,
  fixedWindowIsIdle,
  fixedWindowPeek,
  fixedWindowPolicy,
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
  slidingWindowWaitBound,
} from "./sliding-window.ts";
import {
  type TokenBucketPolicy,
  type TokenBucketState,
  tokenBucketConsume,
  tokenBucketIsIdle,
  tokenBucketPeek,
  tokenBucketPolicy,
  tokenBucketWaitBound,
} from "./token-bucket.ts";
import type { Outcome, Verdict, WaitBound } from "./verdict.ts";

/** The rule of one rate limit, whatever its algorithm. Plain frozen data: a store may send it elsewhere. */
export type RatePolicy = TokenBucketPolicy | SlidingWindowPolicy | FixedWindowPolicy;

/** The state of one key under a {@link RatePolicy}. Meaningful only with a policy of the algorithm that made it. */
export type RateState = TokenBucketState | SlidingWindowState | FixedWindowState;

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
export function rateWaitBound(total: number, policy: RatePolicy): WaitBound {
  switch (policy.algorithm) {
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
