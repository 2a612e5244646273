import { periodUsMax, type Rate, rateLimitMax } from "../base/rate.ts";
import { concurrencyPolicy } from "../limit/algorithms/concurrency.ts";
import { type Policy, type RatePolicy, ratePolicy } from "../limit/algorithms/policy.ts";
import type { LimitRule } from "../limit/store.ts";

/** A limit times `times`, or divided by `over`: whole numbers of at least 1, one of them 1. */
export interface Share {
  readonly times: number;
  readonly over: number;
}

/** The largest burst; that of `algorithms/token-bucket.ts`. */
const burstMax = 1_000_000_000;

/**
 * The rule of a limit that this process keeps alone: the same algorithm at a part or a multiple of the numbers.
 *
 * Parts are rounded down, so that `over` processes together admit no more than the limit; one that would round to nothing becomes
 * 1 in a period as much longer. Multiples end at the bounds of the algorithm.
 */
export function shareOf(rule: LimitRule, share: Share): LimitRule {
  return Object.freeze({ name: rule.name, policy: sharePolicy(rule.policy, share) });
}

function sharePolicy(policy: Policy, share: Share): Policy {
  if (policy.algorithm === "concurrency") {
    return concurrencyPolicy(Math.max(1, scaled(policy.capacity, share, burstMax)), policy.leaseUs);
  }
  return shareRate(policy, share);
}

function shareRate(policy: RatePolicy, share: Share): RatePolicy {
  const { algorithm } = policy;
  const rate = scaledRate(policy.rate, share);
  if (algorithm === "sliding-window") return ratePolicy(rate, { algorithm });
  if (algorithm === "fixed-window") return ratePolicy(rate, { algorithm, align: policy.align });
  // What a token bucket can keep exactly is bounded by the product of burst and limit.
  const exactMax = Math.floor((Number.MAX_SAFE_INTEGER - rate.limit) / rate.limit) - 1;
  const burst = Math.max(1, scaled(policy.capacity, share, Math.min(burstMax, exactMax)));
  return ratePolicy(rate, { algorithm, burst });
}

function scaledRate({ limit, periodUs, text }: Rate, share: Share): Rate {
  const part = scaled(limit, share, rateLimitMax);
  if (part >= 1) return { limit: part, periodUs, text };
  const longer = Math.ceil((periodUs * share.over) / limit);
  return { limit: 1, periodUs: Math.min(longer, periodUsMax), text };
}

function scaled(count: number, { times, over }: Share, max: number): number {
  return Math.min(max, Math.floor((count * times) / over));
}
