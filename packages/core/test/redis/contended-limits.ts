/** The limits that several processes fight for. */
import { parseRate, ratePolicy } from "@sluice/core";
import type { Draw, LimitRule } from "../../src/limit/store.ts";

const rule = (name: string, rate: string, options: Parameters<typeof ratePolicy>[1]): LimitRule =>
  Object.freeze({ name, policy: ratePolicy(parseRate(rate), options) });

/** By what is asked of `admit-process.ts`. */
export const contended = {
  window: rule("window", "50/200ms", { algorithm: "sliding-window" }),
  paced: rule("paced", "40/200ms", { algorithm: "token-bucket", burst: 2 }),
} as const;

/** Three limits of one subject and of all, which lie in different slots of a cluster. */
export function groupOf(key: string): Draw[] {
  return ["one", "two", "three"].map((name, i) => ({
    rule: rule(name, `${[400, 300, 500][i]}/h`, { algorithm: i === 1 ? "fixed-window" : "token-bucket" }),
    key: i === 0 ? key : i === 1 ? "" : `${key}-other`,
    cost: 1,
  }));
}
