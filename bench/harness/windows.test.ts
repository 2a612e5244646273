import { describe, expect, it } from "vitest";
import { judge, parseBudget } from "./windows.ts";

const second = { limit: 2, periodMs: 1000 };

describe("judge", () => {
  it("finds nothing over the limit in evenly spaced starts and counts the budget as fully used", () => {
    const verdict = judge([0, 500_000, 1_000_000, 1_500_000, 2_000_000], second);
    expect(verdict).toMatchObject({ starts: 5, over: 0, overNearStall: 0, worst: 1, usePercent: 100 });
    expect(verdict.jitterP99Ms).toBe(0);
  });

  it("sees a window that straddles two clock seconds", () => {
    const verdict = judge([900_000, 990_000, 1_010_000, 1_020_000], second);
    expect(verdict.over).toBe(2);
    expect(verdict.worst).toBe(2);
  });

  it("does not count a start that is exactly one period old", () => {
    expect(judge([0, 0, 1_000_000], second).over).toBe(0);
    expect(judge([0, 0, 999_999], second).over).toBe(1);
  });

  it("lists windows that touch a stall of the meter apart", () => {
    const starts = [0, 0, 999_999, 5_000_000, 5_000_000, 5_999_999];
    const verdict = judge(starts, second, [{ fromUs: 5_400_000, toUs: 5_420_000 }]);
    expect(verdict).toMatchObject({ over: 1, overNearStall: 1 });
  });

  it("agrees with counting every window by hand", () => {
    const starts = Array.from({ length: 300 }, (_, i) =>
      Math.round((Math.sin(i * 12.9898) + 1) * 20_000_000),
    );
    const byHand = starts.filter(
      (end) => starts.filter((s) => s > end - 1_000_000 && s <= end).length > 2,
    ).length;
    expect(byHand).toBeGreaterThan(0);
    expect(judge(starts, second).over).toBe(byHand);
  });
});

describe("parseBudget", () => {
  it("reads seconds and milliseconds and refuses the rest", () => {
    expect(parseBudget("3/10s")).toEqual({ limit: 3, periodMs: 10_000 });
    expect(parseBudget("5/250ms")).toEqual({ limit: 5, periodMs: 250 });
    expect(() => parseBudget("5")).toThrow("not a rate");
  });
});
