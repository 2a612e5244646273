import { parseRate } from "../../base/rate.ts";
import { type RateAlgorithm, ratePolicy } from "../../limit/algorithms/policy.ts";
import type { LimitRule, LimitStore } from "../../limit/store.ts";
import type { VirtualClock } from "../virtual-clock.ts";

/** One thing every store must do, for a store that is empty. */
export interface StoreCheck {
  readonly name: string;
  check(store: LimitStore, clock: VirtualClock): Promise<void>;
}

/** A rule named after its algorithm. */
export function ruleOf(algorithm: RateAlgorithm, rate: string, burst?: number): LimitRule {
  return Object.freeze({ name: algorithm, policy: ratePolicy(parseRate(rate), { algorithm, burst }) });
}

/** A rule of each algorithm that keeps a rate, all with the same one. */
export function oneOfEach(rate: string): readonly LimitRule[] {
  return (["token-bucket", "sliding-window", "fixed-window"] as const).map((algorithm) =>
    ruleOf(algorithm, rate),
  );
}

/** Whole random numbers below a bound, the same for the same seed: mulberry32. */
export function randomNumbers(seed: string): (below: number) => number {
  let state = [...seed].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) >>> 0, 7);
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
