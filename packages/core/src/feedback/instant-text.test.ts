import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCount, parseDuration, parseHttpDate, parseRfc3339 } from "./instant-text.ts";

const now = Date.UTC(2026, 7, 1);

describe("an HTTP-date", () => {
  test.each([
    ["Sun, 06 Nov 1994 08:49:37 GMT", Date.UTC(1994, 10, 6, 8, 49, 37)],
    ["Sunday, 06-Nov-94 08:49:37 GMT", Date.UTC(1994, 10, 6, 8, 49, 37)],
    ["Sun Nov  6 08:49:37 1994", Date.UTC(1994, 10, 6, 8, 49, 37)],
    ["Sun Nov 16 08:49:37 1994", Date.UTC(1994, 10, 16, 8, 49, 37)],
    ["Saturday, 01-Aug-76 00:00:00 GMT", Date.UTC(2076, 7, 1)],
    ["Monday, 01-Aug-77 00:00:00 GMT", Date.UTC(1977, 7, 1)],
    ["Thu, 29 Feb 2024 23:59:60 GMT", Date.UTC(2024, 2, 1)],
    ["Sat, 01 Jan 0001 00:00:00 GMT", new Date("0001-01-01T00:00:00Z").getTime()],
  ])("is read: %s", (text, expected) => {
    expect(parseHttpDate(text, now)).toBe(expected);
  });

  test.each([
    "",
    "06 Nov 1994 08:49:37 GMT",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 31 Feb 2024 00:00:00 GMT",
    "Sun, 29 Feb 2023 00:00:00 GMT",
    "Sun, 00 Jan 2024 00:00:00 GMT",
    "Sun, 06 Nov 1994 24:00:00 GMT",
    "Sun, 06 Nov 1994 08:60:00 GMT",
    "Sun, 06 Nov 1994 08:49:37 CET",
    "Sun, 06 Nov 1994 08:49:37 +0000",
    "sun, 06 nov 1994 08:49:37 gmt",
    "Sun, 06 Nov 1994 08:49:37 GMT ",
    "1994-11-06T08:49:37Z",
    "784111777",
  ])("is none: %s", (text) => {
    expect(parseHttpDate(text, now)).toBeUndefined();
  });

  test("that the platform has printed is read back", () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date(0), max: new Date("9999-12-31T23:59:59Z"), noInvalidDate: true }),
        (date) => {
          expect(parseHttpDate(date.toUTCString(), now)).toBe(Math.floor(date.getTime() / 1000) * 1000);
        },
      ),
    );
  });
});

describe("an RFC 3339 instant", () => {
  test.each([
    ["2026-08-01T00:00:00Z", now],
    ["2026-08-01t02:00:00.25+02:00", now + 250],
    ["2026-07-31 19:30:00-0430", now],
    ["2026-08-01T00:00Z", now],
  ])("is read: %s", (text, expected) => {
    expect(parseRfc3339(text)).toBe(expected);
  });

  test.each([
    "2026-08-01",
    "2026-08-01T00:00:00",
    "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-08-01T00:00:00+99:00",
  ])("is none: %s", (text) => {
    expect(parseRfc3339(text)).toBeUndefined();
  });
});

describe("a duration", () => {
  test.each([
    ["1m30.5s", 90_500],
    ["6ms", 6],
    ["1h2m", 3_720_000],
    ["2m59.56s", 179_560],
    ["1d", 86_400_000],
    ["250us", 0.25],
    ["500µs", 0.5],
    ["0s", 0],
  ])("is read: %s", (text, expected) => {
    expect(parseDuration(text)).toBeCloseTo(expected, 9);
  });

  test.each(["", "5", "-1s", "1 s", "s", "1y", "1e3s", "1.s", "1s!", "9".repeat(70)])(
    "is none: %s",
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );
});

test("a count is digits with at most one fraction", () => {
  expect(["0", "12", "2.0"].map(parseCount)).toEqual([0, 12, 2]);
  expect(["", "-1", "+1", "1e3", "0x10", "1.", ".5", "Infinity", "NaN", "1 "].map(parseCount)).toEqual(
    Array(10).fill(undefined),
  );
});
