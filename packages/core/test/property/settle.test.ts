import {
  type Charge,
  parseRate,
  type RatePolicy,
  type RateState,
  rateConsume,
  rateConsumeUpTo,
  ratePeek,
  ratePolicy,
  rateSettle,
} from "@sluice/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epochUs, type Gap, microsecondsOf, rates, runs, type Step, steps } from "./histories.ts";

/** A request, which is settled to a part or a multiple of its cost after so many further requests; never if undefined. */
interface Act extends Step {
  readonly settledAfter: number | undefined;
  readonly portion: number;
}

interface Scene {
  readonly policy: RatePolicy;
  readonly acts: readonly Act[];
}

function scenesOf(algorithm: RatePolicy["algorithm"], portions: fc.Arbitrary<number>): fc.Arbitrary<Scene> {
  return rates(3_000)
    .chain(({ limit, periodUs }) => {
      const rate = parseRate({ limit, periodMs: periodUs / 1000 });
      if (algorithm !== "token-bucket") return fc.constant(ratePolicy(rate, { algorithm }));
      return fc.integer({ min: 1, max: limit + 5 }).map((burst) => ratePolicy(rate, { algorithm, burst }));
    })
    .chain((policy) => {
      const act = fc.record({ settledAfter: fc.option(fc.nat(6), { nil: undefined }), portion: portions });
      return fc
        .tuple(steps(policy.capacity), fc.array(act, { minLength: 40, maxLength: 40 }))
        .map(([history, settles]) => ({
          policy,
          acts: history.map((step, i) => ({ ...step, ...settles[i]! })),
        }));
    });
}

/** A debit as it stands, at the instant it was made. */
interface Debit {
  readonly atUs: number;
  cost: number;
}

/** Plays the acts; yields after each request with all debits so far, as they were corrected. */
function* play({ policy, acts }: Scene) {
  let state: RateState | undefined;
  let nowUs = epochUs;
  let toldUs = 0;
  const debits: Debit[] = [];
  const open: { dueAt: number; charge: Charge; actual: number; debit: Debit }[] = [];
  for (const [i, { gap, cost, settledAfter, portion }] of acts.entries()) {
    nowUs += microsecondsOf(gap as Gap, policy.rate, toldUs);
    const { state: after, verdict } = rateConsume(state, nowUs, cost, policy);
    state = after;
    toldUs = Number.isFinite(verdict.retryAfterUs) ? verdict.retryAfterUs : 0;
    if (verdict.allowed) {
      const debit = { atUs: nowUs, cost };
      debits.push(debit);
      const actual = Math.floor(cost * portion);
      if (settledAfter !== undefined) {
        open.push({ dueAt: i + settledAfter, charge: { atUs: verdict.atUs, cost }, actual, debit });
      }
    }
    yield { nowUs, verdict, debits };
    for (const due of open.filter(({ dueAt }) => dueAt === i)) {
      const { charge, actual, debit } = due;
      state = rateSettle(state, nowUs, { charge, actual }, policy);
      // What is used beyond the reservation is used now.
      if (actual <= charge.cost) debit.cost = actual;
      else debits.push({ atUs: nowUs, cost: actual - charge.cost });
      const { remaining } = ratePeek(state, nowUs, 1, policy);
      expect(remaining >= 0 && remaining <= policy.capacity).toBe(true);
    }
  }
}

/** The any-window bound of the algorithm, of windows that end at `atUs`. */
function expectWithinBound(
  debits: readonly Debit[],
  atUs: number,
  { algorithm, capacity, rate }: RatePolicy,
): void {
  if (algorithm === "token-bucket") {
    let sum = 0;
    for (const debit of debits.toReversed()) {
      sum += debit.cost;
      const grown = capacity * rate.periodUs + rate.limit * (atUs - debit.atUs + 1);
      if (debit.cost > 0) expect(sum * rate.periodUs).toBeLessThan(grown);
    }
    return;
  }
  const inside = debits.filter((debit) => debit.atUs > atUs - rate.periodUs);
  const sum = inside.reduce((total, { cost }) => total + cost, 0);
  expect(sum).toBeLessThanOrEqual(algorithm === "fixed-window" ? 2 * capacity : capacity);
}

const algorithms = [["sliding-window"], ["token-bucket"], ["fixed-window"]] as const;
const atMostAll = fc.constantFrom(0, 0, 0.3, 0.5, 1);

describe("settling", () => {
  test.each(algorithms)("gives nothing back twice: what was used keeps the bound: %s", (algorithm) => {
    const property = fc.property(scenesOf(algorithm, atMostAll), (scene) => {
      for (const { nowUs, verdict, debits } of play(scene)) {
        if (verdict.allowed) expectWithinBound(debits, nowUs, scene.policy);
      }
    });
    fc.assert(property, { numRuns: runs });
  });

  test.each([["sliding-window"], ["token-bucket"]] as const)(
    "what was used beyond the reservation is paid before anything is admitted: %s",
    (algorithm) => {
      const portions = fc.constantFrom(0.5, 1, 1.5, 3);
      const property = fc.property(scenesOf(algorithm, portions), (scene) => {
        for (const { nowUs, verdict, debits } of play(scene)) {
          const total = debits.reduce((sum, { cost }) => sum + cost, 0);
          // Debts are forgotten beyond a limit's worth: not what this is about.
          if (total > scene.policy.rate.limit) break;
          if (verdict.allowed) expectWithinBound(debits, nowUs, scene.policy);
        }
      });
      fc.assert(property, { numRuns: runs });
    },
  );

  test.each(algorithms)("right after a debit corrects it exactly: %s", (algorithm) => {
    const property = fc.property(scenesOf(algorithm, atMostAll), fc.nat(5_000), ({ policy, acts }, more) => {
      // Of faster ones more than the capacity may be left over from the microsecond that ends now.
      fc.pre(policy.rate.limit <= policy.rate.periodUs);
      let state: RateState | undefined;
      let nowUs = epochUs;
      for (const { gap, cost, portion } of acts) {
        nowUs += microsecondsOf(gap, policy.rate, 0);
        const before = ratePeek(state, nowUs, 1, policy).remaining;
        const { state: debited, verdict } = rateConsume(state, nowUs, cost, policy);
        state = debited;
        if (!verdict.allowed) continue;
        const actual = portion === 0.5 ? cost + more : Math.floor(cost * portion);
        state = rateSettle(state, nowUs, { charge: { atUs: verdict.atUs, cost }, actual }, policy);
        expect(ratePeek(state, nowUs, 1, policy).remaining).toBe(Math.max(0, before - actual));
      }
    });
    fc.assert(property, { numRuns: runs });
  });

  test.each(algorithms)("a debt, however large, keeps nobody waiting for ever: %s", (algorithm) => {
    const property = fc.property(
      scenesOf(algorithm, atMostAll),
      fc.nat({ max: 2 ** 53 - 1 }),
      ({ policy }, extra) => {
        const { state, verdict } = rateConsume(undefined, epochUs, 1, policy);
        const settlement = { charge: { atUs: verdict.atUs, cost: 1 }, actual: extra };
        let settled = rateSettle(state, epochUs, settlement, policy);
        for (let i = 0; i < 3; i++) {
          const again = { charge: { atUs: epochUs, cost: 0 }, actual: extra };
          settled = rateSettle(settled, epochUs, again, policy);
        }
        const seen = ratePeek(settled, epochUs, 1, policy);
        const fillUs = policy.algorithm === "token-bucket" ? policy.fillUs + 1 : 0;
        const cellUs = policy.algorithm === "sliding-window" ? policy.cellUs : 0;
        expect(seen.retryAfterUs).toBeLessThanOrEqual(policy.rate.periodUs + fillUs + cellUs);
        const due = ratePeek(settled, epochUs + seen.retryAfterUs, 1, policy);
        expect([due.allowed, Number.isSafeInteger(seen.resetAtUs)]).toEqual([true, true]);
      },
    );
    fc.assert(property, { numRuns: runs });
  });
});

describe("up to so many", () => {
  test.each(algorithms)(
    "takes as many as asking for them one by one would, at one instant: %s",
    (algorithm) => {
      const property = fc.property(scenesOf(algorithm, atMostAll), fc.nat(60), ({ policy, acts }, most) => {
        // Of faster ones a microsecond brings more than a capacity at a time.
        fc.pre(policy.rate.limit <= policy.rate.periodUs);
        let state: RateState | undefined;
        let nowUs = epochUs;
        for (const { gap } of acts.slice(0, 8)) {
          nowUs += microsecondsOf(gap, policy.rate, 0);
          let oneByOne = state;
          let taken = 0;
          while (taken < most + 1) {
            const outcome = rateConsume(oneByOne, nowUs, 1, policy);
            if (!outcome.verdict.allowed) break;
            oneByOne = outcome.state;
            taken++;
          }
          const atOnce = rateConsumeUpTo(state, nowUs, most + 1, policy);
          expect(atOnce.verdict.granted).toBe(taken);
          expect(ratePeek(atOnce.state, nowUs, 1, policy)).toEqual(ratePeek(oneByOne, nowUs, 1, policy));
          state = atOnce.state;
        }
      });
      fc.assert(property, { numRuns: Math.ceil(runs / 4) });
    },
  );
});
