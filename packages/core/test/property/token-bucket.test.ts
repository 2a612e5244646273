import {
  isSluiceError,
  parseRate,
  type TokenBucketPolicy,
  type TokenBucketState,
  tokenBucketConsume,
  tokenBucketGrants,
  tokenBucketIsIdle,
  tokenBucketPeek,
  tokenBucketPolicy,
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

/** A policy, and a history that makes sense under it. */
interface Scene {
  readonly policy: TokenBucketPolicy;
  readonly history: readonly Step[];
}

const scenes: fc.Arbitrary<Scene> = rates()
  .chain(({ limit, periodUs }) => {
    const rate = parseRate({ limit, periodMs: periodUs / 1000 });
    const bursts = fc.oneof(
      fc.constant(1),
      fc.integer({ min: 1, max: 20 }),
      fc.constant(Math.min(limit, 10_000)),
    );
    return bursts.map((burst) => tokenBucketPolicy(rate, { burst }));
  })
  .chain((policy) => steps(policy.capacity).map((history) => ({ policy, history })));

/** Everything the types allow: limits to 10^9, periods to 10 years, bursts to 10^9; or a refusal to keep that. */
const extremes = fc.record({
  limit: fc.oneof(
    fc.constantFrom(1, 999_983, 999_999_937, 1_000_000_000),
    fc.integer({ min: 1, max: 1_000_000_000 }),
  ),
  periodUs: fc.oneof(
    fc.constantFrom(1_000, 86_400_000_000, 315_360_000_000_000),
    fc.integer({ min: 1_000, max: 315_360_000_000_000 }),
  ),
  burst: fc.oneof(fc.constantFrom(1, 2, 1_000_000_000), fc.integer({ min: 1, max: 1_000_000_000 })),
});

/**
 * The bucket as a child would play it: tokens, which trickle in and are taken out. Recomputed for every request from the
 * plain list of what was admitted, in exact whole numbers: a token is `periodUs` drops, `limit` drops fall per microsecond.
 */
function modelVerdict(
  admissions: readonly Admission[],
  nowUs: number,
  cost: number,
  policy: TokenBucketPolicy,
) {
  const drops = { perToken: BigInt(policy.rate.periodUs), perUs: BigInt(policy.rate.limit) };
  const full = BigInt(policy.capacity) * drops.perToken;
  let level = full;
  let lastUs = admissions[0]?.atUs ?? nowUs;
  const fill = (untilUs: number): void => {
    level += BigInt(untilUs - lastUs) * drops.perUs;
    lastUs = untilUs;
    // The bucket overflows; but what fell within the last microsecond is of the present reading and still counts.
    if (level - full >= drops.perUs) level = full;
  };
  for (const admission of admissions) {
    fill(admission.atUs);
    level -= BigInt(admission.cost) * drops.perToken;
  }
  fill(nowUs);

  const wanted = BigInt(cost) * drops.perToken;
  const never = cost > policy.capacity;
  const allowed = !never && level >= wanted;
  const left = allowed ? level - wanted : level;
  const missing = full - left;
  return {
    allowed,
    never,
    remaining: Math.min(policy.capacity, Number(left / drops.perToken)),
    retryAfterUs: allowed ? 0 : never ? Infinity : Number(ceilDivide(wanted - level, drops.perUs)),
    resetAtUs: nowUs + Math.max(0, Number(ceilDivide(missing, drops.perUs))),
    granted: allowed ? cost : 0,
    atUs: nowUs,
    fence: 0,
  };
}

function ceilDivide(a: bigint, b: bigint): bigint {
  return a <= 0n ? 0n : (a + b - 1n) / b;
}

/** What happened at one step. */
interface Moment {
  readonly nowUs: number;
  readonly cost: number;
  readonly before: TokenBucketState | undefined;
  readonly after: TokenBucketState | undefined;
  readonly verdict: Verdict;
  readonly admittedBefore: readonly Admission[];
}

function* play({ policy, history }: Scene): Generator<Moment> {
  let state: TokenBucketState | undefined;
  let nowUs = epochUs;
  let toldUs = 0;
  const admitted: Admission[] = [];
  for (const { gap, cost } of history) {
    nowUs += microsecondsOf(gap, policy.rate, toldUs);
    const before = state;
    const outcome = tokenBucketConsume(before, nowUs, cost, policy);
    const { verdict } = outcome;
    yield { nowUs, cost, before, after: outcome.state, verdict, admittedBefore: [...admitted] };
    state = outcome.state;
    if (verdict.allowed) admitted.push({ atUs: nowUs, cost });
    toldUs = Number.isFinite(verdict.retryAfterUs) ? verdict.retryAfterUs : 0;
  }
}

function admissionsOf(scene: Scene): Admission[] {
  return [...play(scene)]
    .filter(({ verdict }) => verdict.allowed)
    .map(({ nowUs, cost }) => ({ atUs: nowUs, cost }));
}

const check = (property: fc.IProperty<[Scene]>): void => fc.assert(property, { numRuns: runs });

describe("token bucket", () => {
  test("answers what a naive model answers, recomputed from the list of admissions (RL2)", () => {
    check(
      fc.property(scenes, (scene) => {
        for (const { nowUs, cost, verdict, admittedBefore } of play(scene)) {
          expect(verdict).toEqual(modelVerdict(admittedBefore, nowUs, cost, scene.policy));
        }
      }),
    );
  });

  test("is as exact at the ends of what it takes, and refuses what it could not keep exactly", () => {
    let kept = 0;
    const property = fc.property(
      extremes.chain((extreme) => steps(extreme.burst).map((history) => ({ extreme, history }))),
      ({ extreme: { limit, periodUs, burst }, history }) => {
        const rate = parseRate({ limit, periodMs: periodUs / 1000 });
        let policy: TokenBucketPolicy;
        try {
          policy = tokenBucketPolicy(rate, { burst });
        } catch (error) {
          expect(isSluiceError(error, "invalid_option")).toBe(true);
          return;
        }
        kept++;
        for (const { nowUs, cost, verdict, admittedBefore } of play({ policy, history })) {
          if (nowUs + policy.fillUs > Number.MAX_SAFE_INTEGER) return;
          expect(verdict).toEqual(modelVerdict(admittedBefore, nowUs, cost, policy));
        }
      },
    );
    fc.assert(property, { numRuns: runs });
    expect(kept).toBeGreaterThan(runs / 10);
  });

  test("keeps cost below burst + rate · (span + 1 µs) over every span (RL1b)", () => {
    check(
      fc.property(scenes, (scene) => {
        const { capacity, rate } = scene.policy;
        const admissions = admissionsOf(scene);
        for (const [i, first] of admissions.entries()) {
          let sum = 0n;
          for (const { atUs, cost } of admissions.slice(i)) {
            sum += BigInt(cost);
            const grown = BigInt(rate.limit) * BigInt(atUs - first.atUs + 1);
            expect(sum * BigInt(rate.periodUs) < BigInt(capacity) * BigInt(rate.periodUs) + grown).toBe(true);
          }
        }
      }),
    );
  });

  test("with burst 1 never admits more than the limit in any window of a period (RL1)", () => {
    const paced = rates(50).map(({ limit, periodUs }) =>
      tokenBucketPolicy(parseRate({ limit, periodMs: periodUs / 1000 }), { burst: 1 }),
    );
    const paces = paced.chain((policy) => steps(1).map((history) => ({ policy, history })));
    check(
      fc.property(paces, (scene) => {
        const { limit, periodUs } = scene.policy.rate;
        expect(fullestWindow(admissionsOf(scene), periodUs)).toBeLessThanOrEqual(limit);
      }),
    );
  });

  test("denies one microsecond before retryAfterUs and admits at it (RL3)", () => {
    check(
      fc.property(scenes, (scene) => {
        for (const { nowUs, cost, after, verdict } of play(scene)) {
          if (verdict.allowed) expect(verdict.retryAfterUs).toBe(0);
          else if (verdict.never) expect(verdict.retryAfterUs).toBe(Infinity);
          else {
            const dueUs = nowUs + verdict.retryAfterUs;
            expect(verdict.retryAfterUs).toBeGreaterThanOrEqual(1);
            expect(tokenBucketConsume(after, dueUs - 1, cost, scene.policy).verdict.allowed).toBe(false);
            expect(tokenBucketConsume(after, dueUs, cost, scene.policy).verdict.allowed).toBe(true);
          }
        }
      }),
    );
  });

  test("keeps what remains within 0 and the capacity, truthfully, and is full again at resetAtUs (RL5)", () => {
    check(
      fc.property(scenes, (scene) => {
        const { policy } = scene;
        for (const { nowUs, after, verdict } of play(scene)) {
          const { remaining, resetAtUs } = verdict;
          expect(remaining >= 0 && remaining <= policy.capacity).toBe(true);
          if (remaining > 0) expect(tokenBucketPeek(after, nowUs, remaining, policy).allowed).toBe(true);
          if (remaining < policy.capacity) {
            expect(tokenBucketPeek(after, nowUs, remaining + 1, policy).allowed).toBe(false);
          }
          expect(tokenBucketPeek(after, resetAtUs, policy.capacity, policy).allowed).toBe(true);
          if (after === undefined) continue;
          expect(tokenBucketIsIdle(after, resetAtUs + 1)).toBe(true);
          if (resetAtUs > nowUs) expect(tokenBucketIsIdle(after, resetAtUs - 1)).toBe(false);
        }
      }),
    );
  });

  test("leaves the state it was given as it was, and peeks without a trace", () => {
    check(
      fc.property(scenes, (scene) => {
        for (const { nowUs, cost, before, after, verdict } of play(scene)) {
          const again = tokenBucketConsume(before, nowUs, cost, scene.policy);
          expect(again).toEqual({ state: after, verdict });
          const seen = tokenBucketPeek(before, nowUs, cost, scene.policy);
          expect([seen.allowed, seen.never, seen.retryAfterUs]).toEqual([
            verdict.allowed,
            verdict.never,
            verdict.retryAfterUs,
          ]);
        }
      }),
    );
  });
});

describe("token bucket under saturation", () => {
  test("starts number k·limit lie exactly k periods after the first: no rate drifts", () => {
    const saturated = fc.record({ rate: rates(300), start: fc.nat(1_000_000) });
    fc.assert(
      fc.property(saturated, ({ rate: { limit, periodUs }, start }) => {
        const policy = tokenBucketPolicy(parseRate({ limit, periodMs: periodUs / 1000 }), { burst: 1 });
        let state: TokenBucketState | undefined;
        let nowUs = epochUs + start;
        const firstUs = nowUs;
        for (let i = 1; i <= 2 * limit; i++) {
          const outcome = tokenBucketConsume(state, nowUs, 1, policy);
          state = outcome.state;
          nowUs += tokenBucketPeek(state, nowUs, 1, policy).retryAfterUs;
          if (i % limit === 0) expect(nowUs - firstUs).toBe((i / limit) * periodUs);
        }
      }),
      { numRuns: Math.ceil(runs / 10) },
    );
  });

  test("grants are the instants and the state of single admissions, one after the other", () => {
    const requests = fc.record({
      scene: scenes,
      burst: fc.integer({ min: 1, max: 6 }),
      horizonIntervals: fc.double({ min: 0, max: 8, noNaN: true }),
      max: fc.integer({ min: 0, max: 12 }),
    });
    fc.assert(
      fc.property(requests, ({ scene, burst, horizonIntervals, max }) => {
        const { rate } = scene.policy;
        const horizonUs = Math.round((horizonIntervals * rate.periodUs) / rate.limit);
        const policy = tokenBucketPolicy(rate, { burst, horizonUs });
        let state: TokenBucketState | undefined;
        let nowUs = epochUs;
        for (const { gap } of scene.history.slice(0, 12)) {
          nowUs += microsecondsOf(gap, rate, 0);
          const grants = tokenBucketGrants(state, nowUs, { horizonUs, max }, policy);
          expect(grants).toEqual(grantsOneByOne(state, nowUs, { horizonUs, max }, policy));
          state = grants.state;
        }
      }),
      { numRuns: runs },
    );
  });

  test("grants claimed at any instants keep the bound of the bucket (RL1, Q6)", () => {
    fc.assert(
      fc.property(scenes, fc.nat(20), ({ policy: { rate }, history }, horizonIntervals) => {
        fc.pre(rate.limit <= 200);
        const horizonUs = Math.round((horizonIntervals * rate.periodUs) / rate.limit);
        const policy = tokenBucketPolicy(rate, { burst: 1, horizonUs });
        let state: TokenBucketState | undefined;
        let nowUs = epochUs;
        const starts: Admission[] = [];
        for (const { gap, cost } of history) {
          nowUs += microsecondsOf(gap, rate, 0);
          const grants = tokenBucketGrants(state, nowUs, { horizonUs, max: cost }, policy);
          for (const atUs of grants.startsUs) {
            expect(atUs >= nowUs && atUs <= nowUs + horizonUs).toBe(true);
            starts.push({ atUs, cost: 1 });
          }
          state = grants.state;
        }
        expect(fullestWindow(starts, rate.periodUs)).toBeLessThanOrEqual(rate.limit);
      }),
      { numRuns: runs },
    );
  });
});

/** What grants should be: single requests, each at the first instant at which it is admitted. */
function grantsOneByOne(
  state: TokenBucketState | undefined,
  nowUs: number,
  { horizonUs, max }: { horizonUs: number; max: number },
  policy: TokenBucketPolicy,
): { state: TokenBucketState; startsUs: number[] } {
  const startsUs: number[] = [];
  let atUs = nowUs;
  let current = state;
  while (startsUs.length < max) {
    const startUs = atUs + tokenBucketPeek(current, atUs, 1, policy).retryAfterUs;
    if (startUs > nowUs + horizonUs) break;
    atUs = startUs;
    current = tokenBucketConsume(current, atUs, 1, policy).state;
    startsUs.push(atUs);
  }
  // Without a grant the state may still be brought to the present.
  return {
    state:
      startsUs.length > 0 ? current! : tokenBucketGrants(state, nowUs, { horizonUs, max: 0 }, policy).state,
    startsUs,
  };
}
