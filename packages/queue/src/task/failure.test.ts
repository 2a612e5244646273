import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeFailure } from "./failure.ts";

/** Throws at every touch. */
const untouchable = new Proxy(
  {},
  {
    get() {
      throw new Error("do not touch");
    },
    getPrototypeOf() {
      throw new Error("do not touch");
    },
    has() {
      throw new Error("do not touch");
    },
    ownKeys() {
      throw new Error("do not touch");
    },
  },
);

function withMessage(message: unknown): Error {
  return Object.defineProperty(new Error("x"), "message", { value: message });
}

describe("whatever a handler throws", () => {
  test.each<[string, unknown]>([
    ["an untouchable proxy", untouchable],
    ["an error whose message is a number", withMessage(42)],
    ["an error without a message", withMessage(undefined)],
    ["an error whose message is an untouchable proxy", withMessage(untouchable)],
    [
      "an error whose message throws",
      Object.defineProperty(new Error("x"), "message", {
        get: () => {
          throw new Error("no");
        },
      }),
    ],
    [
      "an error whose stack is a list, as Error.prepareStackTrace makes it",
      Object.defineProperty(new Error("x"), "stack", { value: [1, 2] }),
    ],
    [
      "an error whose stack throws",
      Object.defineProperty(new Error("x"), "stack", {
        get: () => {
          throw new Error("no");
        },
      }),
    ],
    [
      "an error whose code throws",
      Object.defineProperty(new Error("x"), "code", {
        get: () => {
          throw new Error("no");
        },
      }),
    ],
    ["nothing", undefined],
    ["null", null],
    ["a number", 0],
    ["a symbol", Symbol("s")],
    ["a bigint", 10n],
    ["a function", () => 1],
    ["an object without a prototype", Object.create(null)],
    ["an object that turns itself into nothing", { toJSON: () => undefined, toString: 1 }],
    ["a text with NUL and half a surrogate pair", "a\0b\ud800"],
    ["an error with NUL in its code", Object.assign(new Error("x"), { code: "E\0" })],
    ["fifty megabytes", new Error("x".repeat(50_000_000))],
  ])("can be stored: %s", (_, thrown) => {
    const error = describeFailure(thrown);
    const text = JSON.stringify(error);
    expect(text).not.toMatch(/\\u0000|\\ud[89a-f]/);
    expect(text.length).toBeLessThan(20_000);
    expect(typeof error.code).toBe("string");
    expect(error.code).not.toBe("");
    expect(typeof error.message).toBe("string");
    expect(["string", "undefined"]).toContain(typeof error.stack);
  });

  test("never makes the description throw", () => {
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true, withBigInt: true }), (thrown) => {
        expect(JSON.parse(JSON.stringify(describeFailure(thrown)))).toMatchObject({ code: "handler_failed" });
      }),
    );
  });

  test("an error keeps its code, its message and its stack", () => {
    const thrown = Object.assign(new Error("connection reset"), { code: "ECONNRESET" });
    expect(describeFailure(thrown)).toEqual({
      code: "ECONNRESET",
      message: "connection reset",
      stack: thrown.stack,
    });
  });

  test("a code that is no word gives way to handler_failed", () => {
    for (const code of [undefined, 5, "", {}]) {
      expect(describeFailure(Object.assign(new Error("x"), { code })).code).toBe("handler_failed");
    }
  });

  test("what is no error is shown as JSON, a string as it is", () => {
    expect(describeFailure("just a text").message).toBe("just a text");
    expect(describeFailure({ status: 503 }).message).toBe('{"status":503}');
  });

  test("a pair of surrogates is not cut in half", () => {
    const { message } = describeFailure(new Error("x".repeat(3999) + "😀".repeat(10)));
    expect(message.isWellFormed()).toBe(true);
  });
});
