import { isSluiceError } from "@sluice/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodePayload, encodePayload, type PayloadRole, payloadBytesMax } from "./payload.ts";

function codeOf(value: unknown, role: PayloadRole = "input"): string | undefined {
  try {
    encodePayload("queue q, task t", role, value);
    return undefined;
  } catch (error) {
    return isSluiceError(error) ? error.code : `not ours: ${String(error)}`;
  }
}

/** Whether some text in a value, keys included, cannot be kept by a database. */
function holdsUnstorable(value: unknown): boolean {
  if (typeof value === "string") return value.includes("\0") || !value.isWellFormed();
  if (Array.isArray(value)) return value.some(holdsUnstorable);
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, each]) => holdsUnstorable(key) || holdsUnstorable(each));
}

/** Pieces that look like escapes beside pieces that need them. */
const trickyText = fc
  .array(
    fc.constantFrom(
      "\\",
      "\\\\",
      "u0000",
      "\\u0000",
      "ud800",
      "\\ud800",
      "\0",
      "\ud800",
      "\udc00",
      "\ud83d\ude00",
      '"',
      "\n",
      "é",
    ),
    { maxLength: 8 },
  )
  .map((pieces) => pieces.join(""));
const anyText = fc.oneof(trickyText, fc.string({ unit: "binary" }), fc.string());
const anyJson = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    anyText,
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => (Object.is(number, -0) ? 0 : number)),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 4 }),
    fc.array(fc.tuple(anyText, tie("value")), { maxLength: 4 }).map((entries) => Object.fromEntries(entries)),
  ),
})).value;

describe("payloads", () => {
  test("come back as they were, or are refused if a database cannot keep their text", () => {
    fc.assert(
      fc.property(anyJson, (value) => {
        if (holdsUnstorable(value)) {
          expect(codeOf(value)).toBe("payload_invalid");
          return;
        }
        const text = encodePayload("owner", "input", value);
        expect(decodePayload(text)).toEqual(value);
        expect(text?.includes("\0")).toBe(false);
        expect(text?.isWellFormed()).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  test.each([
    ["a literal backslash before u0000", "\\u0000"],
    ["two literal backslashes before u0000", "\\\\u0000"],
    ["a literal backslash before ud800", "\\ud800"],
    ["a whole surrogate pair", "\ud83d\ude00"],
    ["a key with a literal escape", { "\\u0000": 1 }],
  ])("keep %s", (_, value) => {
    expect(decodePayload(encodePayload("owner", "input", value))).toEqual(value);
  });

  test.each([
    ["NUL", "a\0b"],
    ["NUL behind a literal backslash", "\\\0"],
    ["NUL in a key", { "\0": 1 }],
    ["half a surrogate pair", "\ud800"],
    ["the other half, in a list", ["\udfff"]],
    ["a bigint", 1n],
    ["a nested bigint", { a: [1n] }],
    ["NaN", Number.NaN],
    ["a nested NaN", { a: Number.NaN }],
    ["an infinity", Number.POSITIVE_INFINITY],
    ["a function", () => 1],
    ["a function in an object", { a: () => 1 }],
    ["a symbol", Symbol("s")],
    ["what turns itself into nothing", { toJSON: () => undefined }],
    [
      "what throws while it is read",
      {
        get a(): never {
          throw new Error("no");
        },
      },
    ],
    [
      "what throws something that has no text",
      {
        toJSON(): never {
          throw Object.create(null);
        },
      },
    ],
  ])("refuse %s", (_, value) => {
    expect(codeOf(value)).toBe("payload_invalid");
    expect(codeOf(value, "result")).toBe("result_invalid");
    expect(codeOf(value, "step result")).toBe("result_invalid");
    expect(codeOf(value, "progress")).toBe("payload_invalid");
  });

  test("refuse a cycle, in one line that says so", () => {
    const value: { self?: unknown } = {};
    value.self = value;
    expect(() => encodePayload("queue q, task t", "input", value)).toThrow(
      /^queue q, task t: the input cannot be written as JSON: .*circular[^\n]*$/i,
    );
  });

  test("refuse what is nested too deep, and keep what is nested 500 deep", () => {
    const nested = (depth: number): unknown => {
      let value: unknown = 0;
      for (let i = 0; i < depth; i++) value = [value];
      return value;
    };
    expect(codeOf(nested(200_000))).toBe("payload_invalid");
    expect(() => encodePayload("o", "input", nested(200_000))).toThrow(/nested too deep/);
    expect(decodePayload(encodePayload("o", "input", nested(500)))).toEqual(nested(500));
  });

  test.each([
    ["ASCII", "x", 1],
    ["two bytes a character", "é", 2],
    ["three bytes a character", "€", 3],
    ["four bytes a pair", "😀", 4],
  ])("take exactly 1 MiB of JSON and not a byte more: %s", (_, unit, bytes) => {
    const most = Math.floor((payloadBytesMax - 2) / bytes);
    const rest = payloadBytesMax - 2 - most * bytes;
    const full = unit.repeat(most) + "x".repeat(rest);
    expect(Buffer.byteLength(encodePayload("o", "input", full)!)).toBe(payloadBytesMax);
    expect(codeOf(`${full}x`)).toBe("payload_too_large");
    expect(codeOf(`${full}x`, "result")).toBe("result_too_large");
  });

  test("count the escapes they need, not the characters", () => {
    expect(codeOf("\n".repeat(payloadBytesMax / 2 - 1))).toBeUndefined();
    expect(codeOf("\n".repeat(payloadBytesMax / 2))).toBe("payload_too_large");
  });

  test("nothing is kept as nothing, and null as null", () => {
    expect(encodePayload("o", "input", undefined)).toBeNull();
    expect(decodePayload(null)).toBeUndefined();
    expect(encodePayload("o", "input", null)).toBe("null");
    expect(decodePayload("null")).toBeNull();
  });
});
