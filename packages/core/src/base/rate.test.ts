import { describe, expect, test } from "vitest";
import { isSluiceError } from "./errors.ts";
import { formatRate, parseRate, type RateInput } from "./rate.ts";

const codeOf = (input: unknown): string => {
  try {
    return JSON.stringify(parseRate(input as RateInput));
  } catch (error) {
    return isSluiceError(error) ? error.code : String(error);
  }
};

describe("parseRate", () => {
  test.each([
    ["10/60s", 10, 60_000_000, "10/m"],
    ["5/s", 5, 1_000_000, "5/s"],
    ["5000/h", 5000, 3_600_000_000, "5000/h"],
    ["1/3600s", 1, 3_600_000_000, "1/h"],
    ["5/250ms", 5, 250_000, "5/250ms"],
    ["7/0.7s", 7, 700_000, "7/700ms"],
    ["100/d", 100, 86_400_000_000, "100/d"],
    ["3/10s", 3, 10_000_000, "3/10s"],
    ["3/1.5ms", 3, 1_500, "3/1.5ms"],
    [" 10 / 60 S ", 10, 60_000_000, "10/m"],
    ["010/060.000s", 10, 60_000_000, "10/m"],
  ])("reads %s", (text, limit, periodUs, canonical) => {
    expect(parseRate(text)).toEqual({ limit, periodUs, text: canonical });
  });

  test.each([
    ["0.5/s", "1/2s"],
    ["1.5/s", "3/2s"],
    ["2.50/s", "5/2s"],
    ["0.1/m", "1/600s"],
    ["0.001/d", "1/86400000s"],
  ])("makes the fractional limit of %s whole by lengthening the period: %s", (given, whole) => {
    expect(parseRate(given)).toEqual(parseRate(whole));
  });

  test("takes a pair of numbers, fractions of a millisecond included", () => {
    expect(parseRate({ limit: 5, periodMs: 250 })).toEqual(parseRate("5/250ms"));
    expect(parseRate({ limit: 0.5, periodMs: 1000 })).toEqual(parseRate("0.5/s"));
    expect(parseRate({ limit: 3, periodMs: 1.5 })).toEqual(parseRate("3/1.5ms"));
  });

  test("takes a rate it made, and returns frozen ones", () => {
    const rate = parseRate("7/0.7s");
    expect(parseRate(rate)).toEqual(rate);
    expect(Object.isFrozen(rate)).toBe(true);
  });

  test("reads what formatRate writes", () => {
    for (const text of [
      "10/m",
      "5/s",
      "5000/h",
      "1/d",
      "10/90s",
      "5/250ms",
      "3/1.5ms",
      "1000000000/1ms",
      "1/1ms",
    ]) {
      expect(formatRate(parseRate(text))).toBe(text);
    }
  });

  test("accepts the bounds and refuses what lies beyond", () => {
    expect(parseRate("1000000000/1ms").limit).toBe(1_000_000_000);
    expect(codeOf("1000000001/s")).toBe("invalid_rate");
    expect(codeOf("1/0.999ms")).toBe("invalid_rate");
    expect(parseRate("1/3650d").periodUs).toBe(315_360_000_000_000);
    expect(codeOf("1/3650.1d")).toBe("invalid_rate");
    expect(codeOf("0.5/3650d")).toBe("invalid_rate");
  });

  test.each([
    ["5"],
    [5],
    ["5/0s"],
    ["0/s"],
    ["0.0/s"],
    ["-1/s"],
    ["+1/s"],
    ["1/-1s"],
    [""],
    [" "],
    ["/"],
    ["/s"],
    ["5/"],
    ["5/60"],
    ["5/fortnight"],
    ["5//s"],
    ["5/s/s"],
    ["5,5/s"],
    ["1e3/s"],
    ["1e99/s"],
    ["NaN/s"],
    ["Infinity/s"],
    ["٣/s"],
    [`${"9".repeat(100_000)}/s`],
    [`1/${"0".repeat(100_000)}1s`],
    ["0.0000000000000000000000000001/s"],
    ["1/1.0015ms"],
    [Number.NaN],
    [1e99],
    [0],
    [null],
    [undefined],
    [true],
    [[]],
    [{}],
    [{ limit: 5 }],
    [{ limit: "5", periodMs: 1000 }],
    [{ limit: Number.NaN, periodMs: 1000 }],
    [{ limit: 5, periodMs: Infinity }],
    [{ limit: 5, periodMs: 0 }],
    [{ limit: -5, periodMs: 1000 }],
    [{ limit: 1e-7, periodMs: 1000 }],
    [() => "5/s"],
  ])("refuses %j with invalid_rate", (given) => {
    expect(codeOf(given)).toBe("invalid_rate");
  });

  test("says what is wrong", () => {
    expect(() => parseRate("5")).toThrow("a rate without a period is no rate");
    expect(() => parseRate("5/0s")).toThrow('rate: expected a period above 0, got "5/0s"');
    expect(() => parseRate("5/fortnight")).toThrow("a unit of ms, s, m, h, d");
    expect(() => parseRate("-1/s")).toThrow('got "-1/s"');
  });
});
