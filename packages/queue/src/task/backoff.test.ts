import fc from "fast-check";
import { expect, test } from "vitest";
import { type Backoff, backoffMs } from "./backoff.ts";

const backoffs = fc.record<Backoff>({
  minMs: fc.double({ min: 1, max: 1e6, noNaN: true }),
  maxMs: fc.double({ min: 1, max: 3e11, noNaN: true }),
  factor: fc.double({ min: 1, max: 100, noNaN: true }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
});
const failures = fc.integer({ min: 1, max: 1_000_000 });
const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test("waits between (1 - jitter) and 1 times the capped power, and is always a finite number", () => {
  fc.assert(
    fc.property(backoffs, failures, chance, (backoff, count, drawn) => {
      const full = Math.min(backoff.maxMs, backoff.minMs * backoff.factor ** (count - 1));
      const wait = backoffMs(backoff, count, drawn);
      expect(Number.isFinite(wait)).toBe(true);
      expect(wait).toBeLessThanOrEqual(full);
      expect(wait).toBeGreaterThanOrEqual(full * (1 - backoff.jitter) * (1 - 1e-12));
    }),
    { numRuns: 1000 },
  );
});

test("never waits less after one failure more, for the same chance", () => {
  fc.assert(
    fc.property(backoffs, failures, chance, (backoff, count, drawn) => {
      expect(backoffMs(backoff, count + 1, drawn)).toBeGreaterThanOrEqual(backoffMs(backoff, count, drawn));
    }),
  );
});

test("doubles from the first wait to the longest", () => {
  const backoff = { minMs: 500, maxMs: 60_000, factor: 2, jitter: 0 };
  const waits = [1, 2, 3, 7, 8, 9, 1000].map((count) => backoffMs(backoff, count, 0.9));
  expect(waits).toEqual([500, 1000, 2000, 32_000, 60_000, 60_000, 60_000]);
});

test("jitter takes its share off the wait", () => {
  const backoff = { minMs: 1000, maxMs: 1000, factor: 1, jitter: 0.5 };
  expect(backoffMs(backoff, 1, 0)).toBe(1000);
  expect(backoffMs(backoff, 1, 0.5)).toBe(750);
});
