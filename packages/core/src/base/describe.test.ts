import { expect, test } from "vitest";
import { describeValue } from "./describe.ts";

test.each([
  [5, "5"],
  [-0, "-0"],
  [Number.NaN, "NaN"],
  [5n, "5n"],
  ["fast", '"fast"'],
  [null, "null"],
  [undefined, "undefined"],
  [true, "true"],
  [[], "an empty array"],
  [[1, 2], "an array of 2"],
  [{}, "{}"],
  [{ limit: 5, periodMs: 0 }, "{limit: 5, periodMs: 0}"],
  [{ inner: { deep: 1 } }, "{inner: …}"],
  [new Map(), "an instance of Map"],
  [() => 1, "a function"],
  [Symbol("s"), "a symbol"],
  ["redis://user:pa:ss@host:6379", '"redis://…@host:6379"'],
])("describes %o as %s", (value, words) => {
  expect(describeValue(value)).toBe(words);
});

test("cuts what is long, and runs none of the value's code", () => {
  const trap = {
    get secret(): string {
      throw new Error("the getter ran");
    },
    toString() {
      throw new Error("toString ran");
    },
  };
  expect(describeValue(trap)).toBe("{secret: undefined, toString: a function}");
  expect(describeValue("x".repeat(1e6)).length).toBe(80);
  expect(
    describeValue(Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`key${i}`, i]))).length,
  ).toBeLessThan(81);
});
