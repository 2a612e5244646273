import { periodUsMax } from "../base/rate.ts";
import type { Policy } from "../limit/algorithms/policy.ts";
import { type SlidingWindowPolicy, slidingWindowPolicy } from "../limit/algorithms/sliding-window.ts";
import { type TokenBucketPolicy, tokenBucketPolicy } from "../limit/algorithms/token-bucket.ts";

/** How one limit is leased. */
export interface LeasePlan {
  /** The policy that leases are debited under in the store, so that what is spent of them keeps to the one declared. */
  readonly debitPolicy: Policy;
  /** How long a lease may be spent, counted from before its debit. */
  readonly ttlUs: number;
  /** The most tokens of a lease. */
  readonly most: number;
}

/** What the user has said. */
export interface LeaseTerms {
  readonly ttlUs: number;
  readonly most: number;
  readonly strict: boolean;
  readonly guardPart: number;
}

/** One lease takes at most this part of the capacity, so that a few idle holders cannot have all of it. */
const partOfCapacity = 1 / 8;
/** A shorter life would be over before the answer is there. */
const ttlUsMin = 2_000;

/**
 * How a limit can be leased without breaking its promise; undefined when it cannot, or when it would not pay.
 *
 * What is debited at d and spent at s, with d ≤ s < d + ttl, belongs to the window around s. So a window of length W of what is
 * spent holds only what was debited in a window of length W + ttl, namely the same one begun earlier by ttl:
 *
 * - token bucket, declared C + r·W. Debited under the burst C − ⌈r·ttl⌉: (C − ⌈r·ttl⌉) + r·(W + ttl) ≤ C + r·W.
 * - sliding window, declared N in any period P. Debited under N in any P + ttl.
 * - fixed window: what is debited in one window must be spent in it, and an answer of the store does not tell how much of it is
 *   left. Not leased. Neither is concurrency, whose slots are leases already.
 */
export function leasePlan(policy: Policy, terms: LeaseTerms): LeasePlan | undefined {
  switch (policy.algorithm) {
    case "token-bucket":
      return bucketPlan(policy, terms);
    case "sliding-window":
      return windowPlan(policy, terms);
    default:
      return undefined;
  }
}

function bucketPlan(policy: TokenBucketPolicy, terms: LeaseTerms): LeasePlan | undefined {
  if (!terms.strict) return worthwhile({ ...terms, debitPolicy: policy });
  const { rate, capacity, horizonUs } = policy;
  const ttlUs = Math.floor(Math.min(terms.ttlUs, terms.guardPart * policy.fillUs));
  const burst = capacity - Math.ceil((rate.limit / rate.periodUs) * ttlUs + 1e-9);
  if (burst < 1) return undefined;
  return worthwhile({ debitPolicy: tokenBucketPolicy(rate, { burst, horizonUs }), ttlUs, most: terms.most });
}

function windowPlan(policy: SlidingWindowPolicy, terms: LeaseTerms): LeasePlan | undefined {
  if (!terms.strict) return worthwhile({ ...terms, debitPolicy: policy });
  const { limit, periodUs, text } = policy.rate;
  const ttlUs = Math.floor(Math.min(terms.ttlUs, terms.guardPart * periodUs));
  if (periodUs + ttlUs > periodUsMax) return undefined;
  const debitPolicy = slidingWindowPolicy({ limit, periodUs: periodUs + ttlUs, text });
  return worthwhile({ debitPolicy, ttlUs, most: terms.most });
}

function worthwhile({ debitPolicy, ttlUs, most }: LeasePlan): LeasePlan | undefined {
  const mostOfIt = Math.min(most, Math.floor(debitPolicy.capacity * partOfCapacity));
  return mostOfIt < 2 || ttlUs < ttlUsMin ? undefined : { debitPolicy, ttlUs, most: mostOfIt };
}
