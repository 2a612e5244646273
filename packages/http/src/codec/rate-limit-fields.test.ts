import { type FieldItem, parseDictionary, parseList } from "@sluice/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { quotaExceeded, temporaryReducedCapacity } from "./problem.ts";
import {
  type FieldOptions,
  type QuotaReport,
  rateLimitHeaders,
  retryAfterText,
} from "./rate-limit-fields.ts";

const burst: QuotaReport = {
  name: "burst",
  limit: 20,
  windowMs: 1000,
  remaining: 0,
  resetMs: 400,
  retryAfterMs: 400,
};
const daily: QuotaReport = {
  name: "daily",
  limit: 5000,
  windowMs: 86_400_000,
  remaining: 4120,
  resetMs: 31_900_000,
  retryAfterMs: 0,
  partition: new TextEncoder().encode("tenant-42"),
};
const nowMs = Date.UTC(2026, 7, 1, 12);
const options: FieldOptions = { draft: 11, legacy: false, nowMs, jitterMs: 0 };

function headers(
  reports: readonly QuotaReport[],
  changes: Partial<FieldOptions> = {},
): Record<string, string> {
  return Object.fromEntries(rateLimitHeaders(reports, { ...options, ...changes }));
}

test.each([8, 9, 10, 11] as const)("draft %i speaks of every limit", (draft) => {
  expect(headers([burst, daily], { draft })).toEqual({
    "RateLimit-Policy": '"burst";q=20;w=1, "daily";q=5000;w=86400;pk=:dGVuYW50LTQy:',
    RateLimit: '"burst";r=0;t=1, "daily";r=4120;t=31900;pk=:dGVuYW50LTQy:',
    "Retry-After": "1",
  });
});

test("draft 7 speaks of the one that binds", () => {
  expect(headers([daily, burst], { draft: 7 })).toEqual({
    "RateLimit-Policy": "5000;w=86400, 20;w=1",
    RateLimit: "limit=20, remaining=0, reset=1",
    "Retry-After": "1",
  });
});

test("draft 6 has a header for each number", () => {
  expect(headers([daily], { draft: 6 })).toEqual({
    "RateLimit-Policy": "5000;w=86400",
    "RateLimit-Limit": "5000",
    "RateLimit-Remaining": "4120",
    "RateLimit-Reset": "31900",
  });
});

test("legacy headers come on request, with either reset", () => {
  const epoch = { "X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4120" };
  expect(headers([daily], { draft: false, legacy: "epoch" })).toEqual({
    ...epoch,
    "X-RateLimit-Reset": String(nowMs / 1000 + 31_900),
  });
  expect(headers([daily], { draft: false, legacy: "delta" })).toEqual({
    ...epoch,
    "X-RateLimit-Reset": "31900",
  });
});

test("no reports, no headers", () => {
  expect(rateLimitHeaders([], options)).toEqual([]);
});

test("a window that is not made of whole seconds is left out", () => {
  for (const windowMs of [250, 1500])
    expect(headers([{ ...burst, windowMs }])["RateLimit-Policy"]).toBe('"burst";q=20');
});

test("the longest refusal decides Retry-After, and one that never ends gives none", () => {
  expect(headers([burst, { ...daily, remaining: 0, retryAfterMs: 9001 }])["Retry-After"]).toBe("10");
  expect(headers([{ ...burst, retryAfterMs: Infinity }])["Retry-After"]).toBeUndefined();
});

test("jitter moves what is refused, in Retry-After and in t alike", () => {
  expect(headers([burst, daily], { jitterMs: 2000 })).toMatchObject({
    RateLimit: expect.stringMatching(/^"burst";r=0;t=3, "daily";r=4120;t=31900/),
    "Retry-After": "3",
  });
});

test("Retry-After is whole, rounded up, and at least 1", () => {
  expect([0, 0.001, 1, 999, 1000, 1000.001, 1e30].map(retryAfterText)).toEqual([
    "1",
    "1",
    "1",
    "1",
    "1",
    "2",
    "999999999999999",
  ]);
});

describe("whatever the numbers", () => {
  const duration = fc.oneof(fc.double({ min: 0, max: 1e18, noNaN: true }), fc.constant(0));
  const report: fc.Arbitrary<QuotaReport> = fc.record({
    name: fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) }),
    limit: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    windowMs: duration,
    remaining: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    resetMs: duration,
    retryAfterMs: fc.oneof(duration, fc.constant(Infinity)),
    partition: fc.option(fc.uint8Array({ maxLength: 12 }), { nil: undefined }),
  });

  test("what is written is a structured field, and is read back as what it was", () => {
    fc.assert(
      fc.property(
        fc.array(report, { minLength: 1, maxLength: 5 }),
        fc.constantFrom(7, 8, 11),
        (reports, draft) => {
          const written = headers(reports, { draft: draft as 7 });
          if (draft === 7) return void expect(parseDictionary(written["RateLimit"]!)?.size).toBe(3);
          const items = parseList(written["RateLimit"]!) as readonly FieldItem[];
          const policies = parseList(written["RateLimit-Policy"]!) as readonly FieldItem[];
          expect(items.map(({ item }) => item.value)).toEqual(reports.map(({ name }) => name));
          for (const [index, each] of reports.entries()) {
            const clamp = (value: number): number => Math.min(Math.ceil(value), 999_999_999_999_999);
            expect(items[index]!.parameters.get("r")!.value).toBe(clamp(each.remaining));
            expect(policies[index]!.parameters.get("q")!.value).toBe(clamp(each.limit));
            expect(items[index]!.parameters.get("pk")?.value).toEqual(
              each.partition && new Uint8Array(each.partition),
            );
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("nobody is told to come back before it may", () => {
    fc.assert(
      fc.property(fc.array(report, { minLength: 1, maxLength: 5 }), (reports) => {
        const refusing = reports.filter(({ retryAfterMs }) => retryAfterMs > 0);
        const value = headers(reports)["Retry-After"];
        if (refusing.length === 0 || refusing.some(({ retryAfterMs }) => retryAfterMs === Infinity))
          return void expect(value).toBeUndefined();
        const longest = Math.max(...refusing.map(({ retryAfterMs }) => retryAfterMs));
        expect(Number(value) * 1000).toBeGreaterThanOrEqual(Math.min(longest, 999_999_999_999_999_000));
      }),
    );
  });
});

test("problems have the registered types", () => {
  expect(quotaExceeded(["burst"])).toEqual({
    type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    title: "Quota exceeded",
    status: 429,
    "violated-policies": ["burst"],
  });
  expect(temporaryReducedCapacity()).toEqual({
    type: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
    title: "Temporarily reduced capacity",
    status: 503,
  });
});
