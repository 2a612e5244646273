import { parseRate, type RatePolicy, type RateState, rateConsume, ratePeek, ratePolicy } from "@sluice/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Admission, epochUs, fullestWindow, rates, runs } from "./histories.ts";

/** A request after `afterUs` of real time, before which the clock was set back by `setBackUs`. */
interface Tick {
  readonly afterUs: number;
  readonly setBackUs: number;
  readonly cost: number;
}

interface Scene {
  readonly policy: RatePolicy;
  readonly ticks: readonly Tick[];
}

function scenesOf(algorithm: RatePolicy["algorithm"]): fc.Arbitrary<Scene> {
  return rates(60)
    .chain(({ limit, periodUs }) => {
      const rate = parseRate({ limit, periodMs: periodUs / 1000 });
      if (algorithm !== "token-bucket") return fc.constant(ratePolicy(rate, { algorithm }));
      return fc.integer({ min: 1, max: limit }).map((burst) => ratePolicy(rate, { algorithm, burst }));
    })
    .chain((policy) =>
      fc.array(tick(policy), { minLength: 1, maxLength: 40 }).map((ticks) => ({ policy, ticks })),
    );
}

function tick({ rate: { limit, periodUs }, capacity }: RatePolicy): fc.Arbitrary<Tick> {
  const intervalUs = Math.ceil(periodUs / limit);
  return fc.record({
    afterUs: fc.oneof(fc.constant(0), fc.nat(2 * intervalUs), fc.nat(2 * periodUs)),
    setBackUs: fc.oneof(
      { weight: 6, arbitrary: fc.constant(0) },
      { weight: 2, arbitrary: fc.constantFrom(1, intervalUs, periodUs - 1, periodUs, periodUs + 1) },
      { weight: 2, arbitrary: fc.nat(20 * periodUs) },
    ),
    cost: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: capacity })),
  });
}

/** Plays the ticks with a reading that is set back; admissions are listed in real time. */
function* play({ policy, ticks }: Scene) {
  let state: RateState | undefined;
  let realUs = epochUs;
  let behindUs = 0;
  const admissions: Admission[] = [];
  for (const { afterUs, setBackUs, cost } of ticks) {
    realUs += afterUs;
    behindUs += setBackUs;
    const nowUs = realUs - behindUs;
    const { state: after, verdict } = rateConsume(state, nowUs, cost, policy);
    state = after;
    if (verdict.allowed) admissions.push({ atUs: realUs, cost });
    yield { nowUs, cost, verdict, state, admissions };
  }
}

const check = (scenes: fc.Arbitrary<Scene>, body: (scene: Scene) => void): void =>
  fc.assert(fc.property(scenes, body), { numRuns: runs });

describe("a clock that is set back (RL7)", () => {
  test("refunds nothing: a sliding window keeps its bound in real time", () => {
    check(scenesOf("sliding-window"), (scene) => {
      const last = [...play(scene)].at(-1)!;
      expect(fullestWindow(last.admissions, scene.policy.rate.periodUs)).toBeLessThanOrEqual(
        scene.policy.capacity,
      );
    });
  });

  test("refunds nothing: a token bucket keeps its bound in real time", () => {
    check(scenesOf("token-bucket"), (scene) => {
      const { capacity, rate } = scene.policy;
      const { admissions } = [...play(scene)].at(-1)!;
      for (const [i, first] of admissions.entries()) {
        let sum = 0;
        for (const { atUs, cost } of admissions.slice(i)) {
          sum += cost;
          const bound = capacity * rate.periodUs + rate.limit * (atUs - first.atUs + 1);
          expect(sum * rate.periodUs).toBeLessThan(bound);
        }
      }
    });
  });

  test("refunds nothing: a fixed window keeps twice its limit in real time", () => {
    check(scenesOf("fixed-window"), (scene) => {
      const last = [...play(scene)].at(-1)!;
      const fullest = fullestWindow(last.admissions, scene.policy.rate.periodUs);
      expect(fullest).toBeLessThanOrEqual(2 * scene.policy.capacity);
    });
  });

  test.each([["sliding-window"], ["token-bucket"], ["fixed-window"]] as const)(
    "makes nobody wait longer than a period more than from empty: %s",
    (algorithm) => {
      check(scenesOf(algorithm), (scene) => {
        const { rate, capacity } = scene.policy;
        for (const { nowUs, cost, verdict, state } of play(scene)) {
          if (verdict.allowed) continue;
          const fromEmptyUs =
            algorithm === "token-bucket" ? Math.ceil((cost * rate.periodUs) / rate.limit) : rate.periodUs;
          // A bucket is set right by whole microseconds, and its wait is rounded up once more.
          const roundedUs = algorithm === "token-bucket" ? 1 : 0;
          expect(verdict.retryAfterUs).toBeLessThanOrEqual(rate.periodUs + fromEmptyUs + roundedUs);
          const due = rateConsume(state, nowUs + verdict.retryAfterUs, cost, scene.policy);
          expect(due.verdict.allowed).toBe(true);
          expect(capacity).toBeGreaterThanOrEqual(due.verdict.remaining);
        }
      });
    },
  );
});

describe("a clock that jumps forward (RL7)", () => {
  test("admits at most what the jump is worth", () => {
    fc.assert(
      fc.property(scenesOf("token-bucket"), fc.nat(50), ({ policy }, periods) => {
        const { rate, capacity } = policy;
        let state = rateConsume(undefined, epochUs, capacity, policy).state;
        const landedUs = epochUs + periods * rate.periodUs;
        let admitted = 0;
        for (
          let seen = ratePeek(state, landedUs, 1, policy);
          seen.allowed;
          seen = ratePeek(state, landedUs, 1, policy)
        ) {
          state = rateConsume(state, landedUs, 1, policy).state;
          admitted++;
        }
        expect(admitted).toBe(Math.min(capacity, periods * rate.limit));
      }),
      { numRuns: Math.ceil(runs / 4) },
    );
  });
});
