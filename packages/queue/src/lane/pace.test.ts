import { isSluiceError, type Rate } from "@sluice/core";
import fc from "fast-check";
import { expect, test } from "vitest";
import { checkBurst, defaultGuardUs, lanePace, latenessUs, limitRecord } from "./pace.ts";

const rates = fc
  .record({
    limit: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 1_000_000_000 })),
    periodUs: fc.oneof(
      fc.integer({ min: 1_000, max: 10_000_000 }),
      fc.integer({ min: 1_000, max: 10 * 365 * 86_400_000_000 }),
    ),
  })
  .map<Rate>(({ limit, periodUs }) => ({ limit, periodUs, text: `${limit}/${periodUs}us` }));

test("the emission interval is exact: as many starts as the limit take the period and the guard, to the microsecond", () => {
  const guards = fc.integer({ min: 0, max: 60_000_000 });
  fc.assert(
    fc.property(rates, guards, (rate, guardUs) => {
      const { numerator, denominator } = limitRecord(rate, 1, guardUs);
      const [num, den] = [BigInt(numerator), BigInt(denominator)];
      expect((BigInt(rate.limit) * num) % den).toBe(0n);
      expect((BigInt(rate.limit) * num) / den).toBe(BigInt(rate.periodUs + guardUs));
      expect(gcd(num, den)).toBe(1n);
    }),
    { numRuns: 2000 },
  );
});

test("starts at the whole parts of its multiples never put more than the limit into a period", () => {
  const small = fc.record({
    limit: fc.integer({ min: 1, max: 60 }),
    periodUs: fc.integer({ min: 1_000, max: 100_000 }),
    guardUs: fc.integer({ min: 0, max: 3_000 }),
  });
  fc.assert(
    fc.property(small, ({ limit, periodUs, guardUs }) => {
      const { numerator, denominator } = lanePace({ limit, periodUs, text: "" }, 1, guardUs);
      const starts = Array.from({ length: 3 * limit + 1 }, (_, i) =>
        Math.floor((i * numerator) / denominator),
      );
      for (let i = limit; i < starts.length; i++)
        expect(starts[i]! - starts[i - limit]!).toBe(periodUs + guardUs);
    }),
    { numRuns: 500 },
  );
});

test("records keep what was declared", () => {
  expect(limitRecord({ limit: 20, periodUs: 1_000_000, text: "20/1s" }, 3, 12_000)).toEqual({
    amount: 20,
    periodUs: 1_000_000,
    guardUs: 12_000,
    burst: 3,
    numerator: 50_600,
    denominator: 1,
  });
  expect(lanePace({ limit: 7, periodUs: 1_000_000, text: "7/1s" }, 2, 0)).toEqual({
    numerator: 1_000_000,
    denominator: 7,
    burst: 2,
    periodUs: 1_000_000,
  });
});

test("the guard is 1.2 % of the period, at least 7.5 ms, at most 50 ms and never over 4 % of it", () => {
  const guardOf = (periodMs: number): number => defaultGuardUs(periodMs * 1000) / 1000;
  expect([1000, 2000, 10_000, 3_600_000].map(guardOf)).toEqual([12, 24, 50, 50]);
  expect([250, 200, 187.5, 100, 10].map(guardOf)).toEqual([7.5, 7.5, 7.5, 4, 0.4]);
  fc.assert(
    fc.property(rates, ({ periodUs }) => {
      const guardUs = defaultGuardUs(periodUs);
      expect(Number.isInteger(guardUs)).toBe(true);
      expect(guardUs).toBeLessThanOrEqual(Math.min(50_000, 0.04 * periodUs));
      // Two milliseconds are what it takes to start anything at all.
      expect(latenessUs(guardUs)).toBeLessThanOrEqual(Math.max(2_000, guardUs));
      expect(latenessUs(guardUs)).toBeGreaterThanOrEqual(2_000);
    }),
  );
});

test("a burst beyond what the store can reckon with is refused, by name", () => {
  const fine: Rate = { limit: 1000, periodUs: 1_000_000, text: "1000/1s" };
  checkBurst("queue q", "burst", lanePace(fine, 1_000_000, 12_000), fine);
  const decade: Rate = { limit: 7, periodUs: 10 * 365 * 86_400_000_000, text: "7/10y" };
  try {
    checkBurst("queue q", "partition.burst", lanePace(decade, 1_000_000, 50_000), decade);
    expect.unreachable();
  } catch (error) {
    expect(isSluiceError(error, "invalid_option")).toBe(true);
    expect(String(error)).toMatch(
      /queue q: option partition\.burst: expected at most \d+ .*7\/10y.*, got 1000000/,
    );
  }
});

test("whatever burst is accepted, the store's arithmetic with it stays within 64 bits", () => {
  fc.assert(
    fc.property(rates, fc.integer({ min: 1, max: 1_000_000 }), (rate, burst) => {
      const pace = lanePace(rate, burst, 60_000_000);
      try {
        checkBurst("queue q", "burst", pace, rate);
      } catch {
        return;
      }
      // A claim reckons with the burst and with at most 500 starts more.
      expect(BigInt(burst + 500) * BigInt(pace.numerator)).toBeLessThan(2n ** 63n);
    }),
    { numRuns: 2000 },
  );
});

function gcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : gcd(b, a % b);
}
