import {
  parseRate,
  type SlidingWindowPolicy,
  type SlidingWindowState,
  slidingWindowConsume,
  slidingWindowIsIdle,
  slidingWindowPeek,
  slidingWindowPolicy,
  type Verdict,
} from "@sluice/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Admission,
  epochUs,
  fullestWindow,
  microsecondsOf,
  rates,
  runs,
  type Step,
  steps,
} from "./histories.ts";

interface Scene {
  readonly policy: SlidingWindowPolicy;
  readonly history: readonly Step[];
}

// Limits of every size: those up to 1000 have an exact log, those above one in cells.
const scenes: fc.Arbitrary<Scene> = rates(100_000)
  .map(({ limit, periodUs }) => slidingWindowPolicy(parseRate({ limit, periodMs: periodUs / 1000 })))
  .chain((policy) => steps(policy.capacity).map((history) => ({ policy, history })));

/** The definition, word for word: add up what the last period admitted; try every later instant at which that changes. */
function modelVerdict(
  admissions: readonly Admission[],
  nowUs: number,
  cost: number,
  { capacity, rate: { periodUs }, cellUs }: SlidingWindowPolicy,
): Verdict {
  const cellEndUs = (us: number): number => Math.floor(us / cellUs) * cellUs + cellUs - 1;
  const recorded = admissions.map((admission) => ({ ...admission, atUs: cellEndUs(admission.atUs) }));
  const usedAt = (instantUs: number): number =>
    recorded
      .filter(({ atUs }) => atUs > instantUs - periodUs)
      .reduce((sum, admission) => sum + admission.cost, 0);
  const fitsAt = (instantUs: number): boolean => usedAt(instantUs) + cost <= capacity;
  const allowed = fitsAt(nowUs);
  const never = cost > capacity;
  const changes = recorded.map(({ atUs }) => atUs + periodUs).filter((instantUs) => instantUs > nowUs);
  const lastUs = allowed ? cellEndUs(nowUs) + periodUs : Math.max(nowUs, ...changes);
  return {
    allowed,
    never,
    remaining: capacity - usedAt(nowUs) - (allowed ? cost : 0),
    retryAfterUs: allowed ? 0 : never ? Infinity : changes.find(fitsAt)! - nowUs,
    resetAtUs: lastUs,
    granted: allowed ? cost : 0,
    atUs: allowed ? cellEndUs(nowUs) : nowUs,
    fence: 0,
  };
}

interface Moment {
  readonly nowUs: number;
  readonly cost: number;
  readonly before: SlidingWindowState | undefined;
  readonly after: SlidingWindowState | undefined;
  readonly verdict: Verdict;
  readonly admittedBefore: readonly Admission[];
}

function* play({ policy, history }: Scene): Generator<Moment> {
  let state: SlidingWindowState | undefined;
  let nowUs = epochUs;
  let toldUs = 0;
  const admitted: Admission[] = [];
  for (const { gap, cost } of history) {
    nowUs += microsecondsOf(gap, policy.rate, toldUs);
    const before = state;
    const outcome = slidingWindowConsume(before, nowUs, cost, policy);
    const { verdict } = outcome;
    yield { nowUs, cost, before, after: outcome.state, verdict, admittedBefore: [...admitted] };
    state = outcome.state;
    if (verdict.allowed) admitted.push({ atUs: nowUs, cost });
    toldUs = Number.isFinite(verdict.retryAfterUs) ? verdict.retryAfterUs : 0;
  }
}

const check = (property: fc.IProperty<[Scene]>): void => fc.assert(property, { numRuns: runs });

describe("sliding window", () => {
  test("answers what a naive model answers, recomputed from the list of admissions (RL2)", () => {
    check(
      fc.property(scenes, (scene) => {
        for (const { nowUs, cost, verdict, admittedBefore } of play(scene)) {
          expect(verdict).toEqual(modelVerdict(admittedBefore, nowUs, cost, scene.policy));
        }
      }),
    );
  });

  test("never admits more than the limit in any window of a period (RL1)", () => {
    check(
      fc.property(scenes, (scene) => {
        const admitted = [...play(scene)].filter(({ verdict }) => verdict.allowed);
        const admissions = admitted.map(({ nowUs, cost }) => ({ atUs: nowUs, cost }));
        const fullest = fullestWindow(admissions, scene.policy.rate.periodUs);
        expect(fullest).toBeLessThanOrEqual(scene.policy.capacity);
      }),
    );
  });

  test("denies one microsecond before retryAfterUs and admits at it (RL3)", () => {
    check(
      fc.property(scenes, (scene) => {
        for (const { nowUs, cost, after, verdict } of play(scene)) {
          if (verdict.allowed || verdict.never) continue;
          const dueUs = nowUs + verdict.retryAfterUs;
          expect(verdict.retryAfterUs).toBeGreaterThanOrEqual(1);
          expect(slidingWindowConsume(after, dueUs - 1, cost, scene.policy).verdict.allowed).toBe(false);
          expect(slidingWindowConsume(after, dueUs, cost, scene.policy).verdict.allowed).toBe(true);
        }
      }),
    );
  });

  test("is full again at resetAtUs, and never idle before (RL5)", () => {
    check(
      fc.property(scenes, (scene) => {
        const { policy } = scene;
        for (const { nowUs, after, verdict } of play(scene)) {
          expect(verdict.remaining >= 0 && verdict.remaining <= policy.capacity).toBe(true);
          const { resetAtUs } = verdict;
          expect(slidingWindowPeek(after, resetAtUs, policy.capacity, policy).allowed).toBe(true);
          if (after === undefined) continue;
          expect(slidingWindowIsIdle(after, resetAtUs, policy)).toBe(true);
          if (resetAtUs > nowUs) {
            expect(slidingWindowPeek(after, resetAtUs - 1, policy.capacity, policy).allowed).toBe(false);
            expect(slidingWindowIsIdle(after, resetAtUs - 1, policy)).toBe(false);
          }
        }
      }),
    );
  });

  test("leaves every earlier state what it was", () => {
    check(
      fc.property(scenes, (scene) => {
        const moments = [...play(scene)];
        for (const { nowUs, cost, before, verdict } of moments) {
          // A fork: another request on the old state, which must neither see nor touch what came after it.
          slidingWindowConsume(before, nowUs + 1, 1, scene.policy);
          expect(slidingWindowConsume(before, nowUs, cost, scene.policy).verdict).toEqual(verdict);
        }
      }),
    );
  });

  test.each([
    ["100/s", 5_000, 100],
    ["1000/s", 500, 1_000],
    ["1001/s", 100, 101],
    ["1000000/s", 100, 101],
    ["1000000000/1ms", 1, 101],
  ])("keeps no more than %s needs", (rate, gapUs, most) => {
    const policy = slidingWindowPolicy(parseRate(rate));
    let state: SlidingWindowState | undefined;
    for (let i = 0; i < 5_000; i++) {
      const cost = Math.ceil(policy.capacity / 20_000);
      state = slidingWindowConsume(state, epochUs + i * gapUs, cost, policy).state;
      expect(state!.entries.length).toBeLessThanOrEqual(most);
    }
  });

  test("in cells, gives away at most a hundredth of the budget when it is asked all the time", () => {
    const policy = slidingWindowPolicy(parseRate("5000/s"));
    let state: SlidingWindowState | undefined;
    let admitted = 0;
    for (let us = 0; us < 20_000_000; us += 97) {
      const outcome = slidingWindowConsume(state, epochUs + us, 1, policy);
      state = outcome.state;
      if (outcome.verdict.allowed) admitted++;
    }
    expect(admitted / (20 * 5_000)).toBeGreaterThan(0.99);
    expect(admitted).toBeLessThanOrEqual(20 * 5_000);
  });
});
