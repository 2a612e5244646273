import { describe, expect, test } from "vitest";
import { parseRate } from "../../base/rate.ts";
import {
  concurrencyConsume,
  concurrencyPolicy,
  concurrencyRelease,
  concurrencyRenew,
} from "./concurrency.ts";
import { fixedWindowConsume, fixedWindowPolicy } from "./fixed-window.ts";
import { type RateState, rateConsume, ratePolicy } from "./policy.ts";
import { slidingWindowConsume, slidingWindowPolicy } from "./sliding-window.ts";

const midnightUs = 1_767_225_600_000_000;

describe("a sliding window", () => {
  test("frees capacity exactly one period after it was used", () => {
    const policy = ratePolicy(parseRate("2/10s"), { algorithm: "sliding-window" });
    let state: RateState | undefined;
    const ask = (atUs: number, cost = 1): unknown => {
      const outcome = rateConsume(state, atUs, cost, policy);
      state = outcome.state;
      return outcome.verdict;
    };
    ask(0);
    ask(4_000_000);
    expect(ask(9_999_999)).toMatchObject({ allowed: false, retryAfterUs: 1, resetAtUs: 14_000_000 });
    expect(ask(9_999_999, 2)).toMatchObject({ allowed: false, retryAfterUs: 4_000_001 });
    expect(ask(10_000_000)).toMatchObject({ allowed: true, remaining: 0 });
    expect(ask(10_000_000)).toMatchObject({ allowed: false, retryAfterUs: 4_000_000 });
  });

  test("above a limit of 1000 is kept in cells of a hundredth of its period", () => {
    expect(slidingWindowPolicy(parseRate("1000/60s")).cellUs).toBe(1);
    const policy = slidingWindowPolicy(parseRate("1001/60s"));
    expect(policy.cellUs).toBe(600_000);
    const first = slidingWindowConsume(undefined, midnightUs + 10, 1, policy);
    expect(first.verdict).toMatchObject({ atUs: midnightUs + 599_999, resetAtUs: midnightUs + 60_599_999 });
    const second = slidingWindowConsume(first.state, midnightUs + 599_999, 1000, policy);
    expect(second.state?.entries).toEqual([{ atUs: midnightUs + 599_999, cost: 1001 }]);
    const third = slidingWindowConsume(second.state, midnightUs + 600_000, 1, policy);
    expect(third.verdict.retryAfterUs).toBe(59_999_999);
  });

  test("a present held at an entry in cells lets no other entry leave early", () => {
    const policy = slidingWindowPolicy(parseRate("2000/1s"));
    let state = slidingWindowConsume(undefined, midnightUs + 9_999, 1999, policy).state;
    // 1 µs before the first cell has left, with an entry whose cell ends 9 999 µs ahead of this.
    state = slidingWindowConsume(state, midnightUs + 1_000_000, 1, policy).state;
    expect(slidingWindowConsume(state, midnightUs + 1_000_001, 1, policy).verdict.allowed).toBe(false);
  });
});

describe("a fixed window", () => {
  test("lies on the calendar", () => {
    const policy = fixedWindowPolicy(parseRate("5/h"));
    const { state, verdict } = fixedWindowConsume(undefined, midnightUs + 59 * 60_000_000, 5, policy);
    expect(verdict.resetAtUs).toBe(midnightUs + 3_600_000_000);
    expect(fixedWindowConsume(state, midnightUs + 3_600_000_000, 1, policy).verdict.allowed).toBe(true);
  });

  test("or begins with the first request", () => {
    const policy = fixedWindowPolicy(parseRate("5/h"), { align: "first-request" });
    const { verdict } = fixedWindowConsume(undefined, midnightUs + 59 * 60_000_000, 5, policy);
    expect(verdict.resetAtUs).toBe(midnightUs + 119 * 60_000_000);
  });

  test("does not begin with a request that was denied", () => {
    const policy = fixedWindowPolicy(parseRate("5/h"), { align: "first-request" });
    const denied = fixedWindowConsume(undefined, midnightUs, 6, policy);
    const { verdict } = fixedWindowConsume(denied.state, midnightUs + 1_000, 1, policy);
    expect(verdict.resetAtUs).toBe(midnightUs + 1_000 + 3_600_000_000);
  });
});

describe("concurrency", () => {
  const policy = concurrencyPolicy(2, 1_000_000);

  test("a lease that ran out frees its slot and cannot be renewed or released", () => {
    const first = concurrencyConsume(undefined, 0, 2, policy);
    const second = concurrencyConsume(first.state, 1_000_000, 1, policy);
    expect([first.lease?.fence, second.lease?.fence]).toEqual([1, 1_000_000]);
    expect(concurrencyRenew(second.state, 1_000_001, 1, policy).lease).toBeUndefined();
    expect(concurrencyRelease(second.state, 1_000_001, 1, policy).released).toBe(false);
  });

  test("a renewal holds for a full term from then on", () => {
    const first = concurrencyConsume(undefined, 0, 2, policy);
    const renewed = concurrencyRenew(first.state, 999_999, 1, policy);
    expect(renewed.lease).toEqual({ fence: 1, slots: 2, expiresAtUs: 1_999_999 });
    expect(concurrencyConsume(renewed.state, 1_999_998, 1, policy).verdict).toMatchObject({
      allowed: false,
      retryAfterUs: 1,
    });
  });

  test("a clock set back far does not hold slots longer than a term", () => {
    const first = concurrencyConsume(undefined, 100_000_000, 2, policy);
    const denied = concurrencyConsume(first.state, 0, 1, policy);
    expect(denied.verdict).toMatchObject({ allowed: false, retryAfterUs: 1_000_000 });
    expect(concurrencyConsume(denied.state, 1_000_000, 1, policy).verdict.allowed).toBe(true);
  });

  test.each([
    [0, 1_000_000],
    [1.5, 1_000_000],
    [1_000_000_001, 1_000_000],
    [1, 999],
    [1, Number.NaN],
  ])("refuses a capacity of %s with a lease of %s µs", (capacity, leaseUs) => {
    expect(() => concurrencyPolicy(capacity, leaseUs)).toThrow(
      expect.objectContaining({ code: "invalid_option" }),
    );
  });
});
