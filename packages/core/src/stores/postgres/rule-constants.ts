import { createHash } from "node:crypto";
import type { Policy } from "../../limit/algorithms/policy.ts";
import type { LimitRule } from "../../limit/store.ts";

/** A rule as the routines read it: the numbers of `limit_rule`, in its order, beginning with the id. */
export interface RuleConstants {
  /** 63 bits of a digest of the others: the same for the same policy, whoever works it out. */
  readonly id: string;
  /** All of them, separated by commas. */
  readonly text: string;
}

const known = new WeakMap<LimitRule, RuleConstants>();

/** The constants of a rule; worked out once for each. */
export function constantsOf(rule: LimitRule): RuleConstants {
  const found = known.get(rule);
  if (found !== undefined) return found;
  const numbers = numbersOf(rule.policy).join(",");
  const digest = createHash("sha256").update(numbers).digest();
  const id = String(digest.readBigUInt64BE() >> 1n);
  const constants = { id, text: `${id},${numbers}` };
  known.set(rule, constants);
  return constants;
}

function numbersOf(policy: Policy): readonly number[] {
  switch (policy.algorithm) {
    case "token-bucket": {
      const { rate, capacity, intervalUs, intervalPart, parts, fillUs, fillPart, horizonUs } = policy;
      const schedule = [intervalUs, intervalPart, parts, fillUs, fillPart, horizonUs];
      return [1, capacity, rate.periodUs, rate.limit, ...schedule, 0, 0];
    }
    case "sliding-window":
      return [
        2,
        policy.capacity,
        policy.rate.periodUs,
        policy.rate.limit,
        0,
        0,
        0,
        0,
        0,
        0,
        policy.cellUs,
        0,
      ];
    case "fixed-window": {
      const onCalendar = policy.align === "calendar" ? 1 : 0;
      return [3, policy.capacity, policy.rate.periodUs, policy.rate.limit, 0, 0, 0, 0, 0, 0, 0, onCalendar];
    }
    case "concurrency":
      return [4, policy.capacity, policy.leaseUs, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  }
}
