import {
  type FixedWindowPolicy,
  type FixedWindowState,
  fixedWindowConsume,
  fixedWindowIsIdle,
  fixedWindowPeek,
  fixedWindowPolicy,
  parseRate,
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
  readonly policy: FixedWindowPolicy;
  readonly history: readonly Step[];
}

const alignments = fc.constantFrom("calendar" as const, "first-request" as const);

const scenes: fc.Arbitrary<Scene> = fc
  .tuple(rates(), alignments)
  .map(([{ limit, periodUs }, align]) =>
    fixedWindowPolicy(parseRate({ limit, periodMs: periodUs / 1000 }), { align }),
  )
  .chain((policy) => steps(Math.min(policy.capacity, 1_000_000)).map((history) => ({ policy, history })));

/** Where the window that holds `nowUs` begins: found from the list of admissions alone. */
function windowStart(admissions: readonly Admission[], nowUs: number, policy: FixedWindowPolicy): number {
  const { periodUs } = policy.rate;
  if (policy.align === "calendar") return Math.floor(nowUs / periodUs) * periodUs;
  let startUs = nowUs;
  let endUs = -Infinity;
  for (const { atUs } of admissions) {
    if (atUs >= endUs) [startUs, endUs] = [atUs, atUs + periodUs];
  }
  return nowUs < endUs ? startUs : nowUs;
}

function modelVerdict(
  admissions: readonly Admission[],
  nowUs: number,
  cost: number,
  policy: FixedWindowPolicy,
) {
  const startUs = windowStart(admissions, nowUs, policy);
  const counted = admissions.filter(({ atUs }) => atUs >= startUs);
  const used = counted.reduce((sum, admission) => sum + admission.cost, 0);
  const allowed = used + cost <= policy.capacity;
  const never = cost > policy.capacity;
  const usedAfter = used + (allowed ? cost : 0);
  const endUs = startUs + policy.rate.periodUs;
  return {
    allowed,
    never,
    remaining: policy.capacity - usedAfter,
    retryAfterUs: allowed ? 0 : never ? Infinity : endUs - nowUs,
    resetAtUs: usedAfter === 0 ? nowUs : endUs,
    granted: allowed ? cost : 0,
    atUs: nowUs,
    fence: 0,
  };
}

interface Moment {
  readonly nowUs: number;
  readonly cost: number;
  readonly after: FixedWindowState | undefined;
  readonly verdict: Verdict;
  readonly admittedBefore: readonly Admission[];
}

function* play({ policy, history }: Scene): Generator<Moment> {
  let state: FixedWindowState | undefined;
  let nowUs = epochUs;
  let toldUs = 0;
  const admitted: Admission[] = [];
  for (const { gap, cost } of history) {
    nowUs += microsecondsOf(gap, policy.rate, toldUs);
    const outcome = fixedWindowConsume(state, nowUs, cost, policy);
    const { verdict } = outcome;
    yield { nowUs, cost, after: outcome.state, verdict, admittedBefore: [...admitted] };
    state = outcome.state;
    if (verdict.allowed) admitted.push({ atUs: nowUs, cost });
    toldUs = Number.isFinite(verdict.retryAfterUs) ? verdict.retryAfterUs : 0;
  }
}

const check = (property: fc.IProperty<[Scene]>): void => fc.assert(property, { numRuns: runs });

describe("fixed window", () => {
  test("answers what a naive model answers, recomputed from the list of admissions (RL2)", () => {
    check(
      fc.property(scenes, (scene) => {
        for (const { nowUs, cost, verdict, admittedBefore } of play(scene)) {
          expect(verdict).toEqual(modelVerdict(admittedBefore, nowUs, cost, scene.policy));
        }
      }),
    );
  });

  test("never admits more than twice the limit in any window of a period (RL1, its published bound)", () => {
    check(
      fc.property(scenes, (scene) => {
        const admitted = [...play(scene)].filter(({ verdict }) => verdict.allowed);
        const admissions = admitted.map(({ nowUs, cost }) => ({ atUs: nowUs, cost }));
        const fullest = fullestWindow(admissions, scene.policy.rate.periodUs);
        expect(fullest).toBeLessThanOrEqual(2 * scene.policy.capacity);
      }),
    );
  });

  test("the bound is tight: two full windows can meet", () => {
    const policy = fixedWindowPolicy(parseRate("10/s"));
    const edgeUs = 1_767_225_600_000_000;
    const last = fixedWindowConsume(undefined, edgeUs - 1, 10, policy);
    expect([
      last.verdict.allowed,
      fixedWindowConsume(last.state, edgeUs, 10, policy).verdict.allowed,
    ]).toEqual([true, true]);
  });

  test("denies one microsecond before retryAfterUs and admits at it, and is full at resetAtUs (RL3, RL5)", () => {
    check(
      fc.property(scenes, (scene) => {
        const { policy } = scene;
        for (const { nowUs, cost, after, verdict } of play(scene)) {
          expect(verdict.remaining >= 0 && verdict.remaining <= policy.capacity).toBe(true);
          expect(fixedWindowPeek(after, verdict.resetAtUs, policy.capacity, policy).allowed).toBe(true);
          if (after === undefined) continue;
          expect(fixedWindowIsIdle(after, verdict.resetAtUs, policy)).toBe(true);
          if (verdict.allowed || verdict.never) continue;
          const dueUs = nowUs + verdict.retryAfterUs;
          expect(verdict.retryAfterUs).toBeGreaterThanOrEqual(1);
          expect(fixedWindowConsume(after, dueUs - 1, cost, policy).verdict.allowed).toBe(false);
          expect(fixedWindowConsume(after, dueUs, cost, policy).verdict.allowed).toBe(true);
        }
      }),
    );
  });
});
