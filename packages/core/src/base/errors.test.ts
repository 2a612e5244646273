import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { assert, unreachable } from "./assert.ts";
import { errorTable } from "./error-table.ts";
import { type ErrorCode, isSluiceError, SluiceError } from "./errors.ts";

describe("SluiceError", () => {
  test("tells code, family, whether to retry, details and cause", () => {
    const cause = new Error("ECONNREFUSED");
    const error = new SluiceError("store_unavailable", "cannot connect", { cause, details: { port: 5432 } });
    expect(error).toMatchObject({
      name: "SluiceError",
      message: "cannot connect",
      code: "store_unavailable",
      family: "store",
      retryable: true,
      details: { port: 5432 },
      cause,
    });
    expect(error).toBeInstanceOf(Error);
  });

  test("has no cause when none was given", () => {
    expect("cause" in new SluiceError("closed", "x")).toBe(false);
  });

  test("prints its code", () => {
    expect(inspect(new SluiceError("closed", "the limit is closed"))).toMatch(
      /SluiceError: the limit[\s\S]*code: 'closed'/,
    );
  });

  test("is known by its brand, also when another copy of the package made it", () => {
    const error: unknown = new SluiceError("closed", "x");
    const foreign = { [Symbol.for("sluice.error")]: true, code: "closed" };
    expect([isSluiceError(error), isSluiceError(foreign)]).toEqual([true, true]);
    expect([isSluiceError(error, "closed"), isSluiceError(error, "timeout")]).toEqual([true, false]);
    const others = [new Error("closed"), { code: "closed" }, null, undefined, "closed", 5];
    expect(others.map((other) => isSluiceError(other))).toEqual(others.map(() => false));
  });
});

describe("the error table", () => {
  const entries = Object.entries(errorTable);

  test("has codes in one style, and a sentence for each", () => {
    for (const [code, { summary }] of entries) {
      expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
      expect(summary).toMatch(/^[A-Z].*\.$/);
    }
  });

  test("calls nothing retryable that stays wrong until somebody changes it", () => {
    const lasting = entries.filter(([, { family }]) =>
      ["config", "input", "schema", "internal"].includes(family),
    );
    expect(lasting.filter(([, { retryable }]) => retryable)).toEqual([]);
  });
});

describe("assert", () => {
  const codeOf = (work: () => void): ErrorCode | undefined => {
    try {
      work();
      return undefined;
    } catch (error) {
      return isSluiceError(error) ? error.code : undefined;
    }
  };

  test("throws only when the condition is false", () => {
    expect(codeOf(() => assert(true, "fine"))).toBeUndefined();
    expect(codeOf(() => assert(false, "broken"))).toBe("invariant_broken");
    expect(codeOf(() => unreachable("x" as never))).toBe("invariant_broken");
  });
});
