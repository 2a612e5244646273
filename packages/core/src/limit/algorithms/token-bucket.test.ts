import { describe, expect, test } from "vitest";
import { parseRate } from "../../base/rate.ts";
import {
  type TokenBucketState,
  tokenBucketConsume,
  tokenBucketGrants,
  tokenBucketPeek,
  tokenBucketPolicy,
} from "./token-bucket.ts";

const epochUs = 1_767_225_600_000_000;

/** The first `count` instants, counted from the first, at which a bucket that is always asked admits. */
function startsOf(rate: string, burst: number, count: number): number[] {
  const policy = tokenBucketPolicy(parseRate(rate), { burst });
  const starts: number[] = [];
  let state: TokenBucketState | undefined;
  let nowUs = epochUs;
  while (starts.length < count) {
    nowUs += tokenBucketPeek(state, nowUs, 1, policy).retryAfterUs;
    state = tokenBucketConsume(state, nowUs, 1, policy).state;
    starts.push(nowUs - epochUs);
  }
  return starts;
}

describe("a saturated token bucket", () => {
  test.each([
    ["2/1s", 1, [0, 500_000, 1_000_000, 1_500_000]],
    ["2/5s", 1, [0, 2_500_000, 5_000_000, 7_500_000]],
    ["3/10s", 1, [0, 3_333_334, 6_666_667, 10_000_000, 13_333_334]],
    ["7/0.7s", 1, [0, 100_000, 200_000]],
    ["7/1s", 1, [0, 142_858, 285_715, 428_572, 571_429, 714_286, 857_143, 1_000_000]],
    ["1/3600s", 1, [0, 3_600_000_000, 7_200_000_000]],
    ["1000000/s", 1, [0, 1, 2, 3, 4]],
    ["2/1s", 3, [0, 0, 0, 500_000, 1_000_000]],
    ["3/10s", 2, [0, 0, 3_333_334, 6_666_667, 10_000_000]],
  ])("at %s with burst %i starts at %j µs", (rate, burst, starts) => {
    expect(startsOf(rate, burst, starts.length)).toEqual(starts);
  });

  test("admits a thousand a microsecond at 10^9/s, and not one more", () => {
    const policy = tokenBucketPolicy(parseRate("1000000000/s"), { burst: 1 });
    let state: TokenBucketState | undefined;
    for (let us = 0; us < 5; us++) {
      let admitted = 0;
      for (;;) {
        const outcome = tokenBucketConsume(state, epochUs + us, 1, policy);
        state = outcome.state;
        if (!outcome.verdict.allowed) break;
        admitted++;
      }
      expect(admitted).toBe(us === 0 ? 1 : 1000);
    }
  });

  test("does not drift in a month of 3/10s", () => {
    const policy = tokenBucketPolicy(parseRate("3/10s"), { burst: 1, horizonUs: 30 * 86_400_000_000 });
    const state = { tatUs: epochUs, tatPart: 0 };
    const perDay = 3 * 8_640;
    const day = tokenBucketGrants(state, epochUs, { horizonUs: 86_400_000_000, max: perDay + 1 }, policy);
    expect(day.startsUs.at(-1)).toBe(epochUs + 86_400_000_000);
    let current = state;
    for (let i = 0; i < 30; i++) {
      const dayUs = epochUs + i * 86_400_000_000;
      current = tokenBucketGrants(current, dayUs, { horizonUs: 86_400_000_000, max: perDay }, policy).state;
    }
    expect(current).toEqual({ tatUs: epochUs + 30 * 86_400_000_000, tatPart: 0 });
  });
});

describe("grants", () => {
  test("are the starts the schedule has within the horizon", () => {
    const policy = tokenBucketPolicy(parseRate("2/1s"), { burst: 1, horizonUs: 2_000_000 });
    const first = tokenBucketGrants(undefined, 0, { horizonUs: 1_200_000, max: 10 }, policy);
    expect(first).toEqual({ state: { tatUs: 1_500_000, tatPart: 0 }, startsUs: [0, 500_000, 1_000_000] });
    const second = tokenBucketGrants(first.state, 300_000, { horizonUs: 1_200_000, max: 10 }, policy);
    expect(second.startsUs).toEqual([1_500_000]);
    expect(
      tokenBucketGrants(second.state, 300_000, { horizonUs: 1_200_000, max: 10 }, policy).startsUs,
    ).toEqual([]);
  });

  test("give the burst at once, and no more than asked for", () => {
    const policy = tokenBucketPolicy(parseRate("1/s"), { burst: 3, horizonUs: 10_000_000 });
    const request = { horizonUs: 2_000_000, max: 4 };
    expect(tokenBucketGrants(undefined, 5, request, policy).startsUs).toEqual([5, 5, 5, 1_000_005]);
  });

  test("beyond the horizon of the policy are a broken promise", () => {
    const policy = tokenBucketPolicy(parseRate("1/s"), { horizonUs: 10 });
    expect(() => tokenBucketGrants(undefined, 0, { horizonUs: 11, max: 1 }, policy)).toThrow(
      "beyond the horizon",
    );
  });
});

describe("tokenBucketPolicy", () => {
  test("reduces the emission interval to lowest terms", () => {
    expect(tokenBucketPolicy(parseRate("10/4s"), { burst: 3 })).toMatchObject({
      parts: 1,
      intervalUs: 400_000,
      intervalPart: 0,
      fillUs: 1_200_000,
      fillPart: 0,
    });
    expect(tokenBucketPolicy(parseRate("6/4s"), { burst: 2 })).toMatchObject({
      parts: 3,
      intervalUs: 666_666,
      intervalPart: 2,
      fillUs: 1_333_333,
      fillPart: 1,
    });
  });

  test.each([
    ["5/s", { burst: 0 }],
    ["5/s", { burst: -1 }],
    ["5/s", { burst: 1.5 }],
    ["5/s", { burst: Number.NaN }],
    ["5/s", { burst: 1_000_000_001 }],
    ["5/s", { horizonUs: -1 }],
    ["5/s", { horizonUs: 0.5 }],
    ["1/3650d", { burst: 11 }],
    ["999999937/3601s", { burst: 1_000_000_000 }],
  ])("refuses %s with %j, which could not be kept exactly or ever refill", (rate, options) => {
    expect(() => tokenBucketPolicy(parseRate(rate), options)).toThrow(
      expect.objectContaining({ code: "invalid_option" }),
    );
  });

  test.each([
    ["1/3650d", { burst: 10 }],
    ["1000000000/s", { burst: 1_000_000_000 }],
    ["999983/d", { burst: 999_983 }],
    ["1000000000/1ms", {}],
  ])("takes %s with %j", (rate, options) => {
    const policy = tokenBucketPolicy(parseRate(rate), options);
    const { state, verdict } = tokenBucketConsume(undefined, epochUs, policy.capacity, policy);
    expect(verdict).toMatchObject({ allowed: true, remaining: 0 });
    expect(tokenBucketPeek(state, verdict.resetAtUs, policy.capacity, policy).allowed).toBe(true);
  });
});
