import { describe, expect, test } from "vitest";
import { isSluiceError } from "./errors.ts";
import {
  boolean,
  custom,
  durationMs,
  fn,
  integer,
  list,
  number,
  type OptionSpec,
  object,
  oneOf,
  optional,
  rate,
  resolveOptions,
  string,
} from "./options.ts";
import { parseRate } from "./rate.ts";

const spec = {
  maxAttempts: integer({ default: 5, min: 1, max: 1000 }),
  rate: optional(rate()),
  guardMs: durationMs({ default: 2, max: 60_000 }),
  algorithm: oneOf(["token-bucket", "sliding-window"], { default: "token-bucket" }),
  partition: object({ concurrency: integer({ default: 1, min: 1 }), rate: optional(rate()) }),
};

function resolve(given: object | undefined): unknown {
  return resolveOptions('queue "users"', spec, given);
}

function failure(given: unknown, fields: OptionSpec = spec): string {
  try {
    resolveOptions('queue "users"', fields, given as object);
  } catch (error) {
    if (isSluiceError(error)) return `${error.code}: ${error.message}`;
  }
  return "accepted";
}

describe("resolveOptions", () => {
  test("fills in defaults, also those of nested options", () => {
    const defaults = {
      maxAttempts: 5,
      rate: undefined,
      guardMs: 2,
      algorithm: "token-bucket",
      partition: { concurrency: 1, rate: undefined },
    };
    expect(resolve(undefined)).toEqual(defaults);
    expect(resolve({})).toEqual(defaults);
    expect(resolve({ maxAttempts: undefined, partition: undefined })).toEqual(defaults);
  });

  test("keeps what was given, converted", () => {
    const given = { maxAttempts: 1000, rate: "5/s", partition: { rate: { limit: 1, periodMs: 1000 } } };
    expect(resolve(given)).toMatchObject({
      maxAttempts: 1000,
      rate: parseRate("5/s"),
      partition: { concurrency: 1, rate: parseRate("1/s") },
    });
  });

  test("infers the type of the result", () => {
    const resolved = resolveOptions("o", spec, {});
    const attempts: number = resolved.maxAttempts;
    const word: "token-bucket" | "sliding-window" = resolved.algorithm;
    const concurrency: number = resolved.partition.concurrency;
    expect([attempts, word, concurrency]).toEqual([5, "token-bucket", 1]);
    // @ts-expect-error: an optional rate may be absent
    expect(() => resolved.rate.limit).toThrow(TypeError);
  });

  test("freezes the result, through and through", () => {
    const resolved = resolveOptions("o", spec, {});
    expect([Object.isFrozen(resolved), Object.isFrozen(resolved.partition)]).toEqual([true, true]);
  });

  test("leaves what was given untouched", () => {
    const given = Object.freeze({ maxAttempts: 3 });
    expect(resolve(given)).toMatchObject({ maxAttempts: 3 });
  });
});

describe("the message of a wrong option", () => {
  test("gives option, expected and got", () => {
    expect(failure({ maxAttempts: 0 })).toBe(
      'invalid_option: queue "users": option maxAttempts: expected a whole number from 1 to 1000, got 0',
    );
    expect(failure({ partition: { concurrency: "2" } })).toBe(
      'invalid_option: queue "users": option partition.concurrency: expected a whole number of at least 1, got "2"',
    );
    expect(failure({ algorithm: "gcra" })).toBe(
      'invalid_option: queue "users": option algorithm: expected "token-bucket" or "sliding-window", got "gcra"',
    );
  });

  test("of a rate keeps its own code", () => {
    expect(failure({ partition: { rate: "5/0s" } })).toBe(
      'invalid_rate: queue "users": option partition.rate: expected a period above 0, got "5/0s"',
    );
  });

  test("of an unknown name suggests the nearest", () => {
    expect(failure({ maxAttemps: 3 })).toBe(
      'invalid_option: queue "users": unknown option "maxAttemps"; did you mean maxAttempts?',
    );
    expect(failure({ partition: { Concurrency: 3 } })).toMatch(/did you mean concurrency\?$/);
    expect(failure({ colour: 3 })).toMatch(/known are maxAttempts, rate, guardMs, algorithm, partition$/);
  });

  test("of a required option says that nothing came", () => {
    expect(failure({}, { name: string() })).toBe(
      'invalid_option: queue "users": option name: expected a string of 1 to 1000 characters, got nothing',
    );
  });

  test("hides the credentials of a URL", () => {
    const message = failure({ url: "postgres://me:secret@host/db" }, { url: integer() });
    expect(message).toContain("postgres://…@host/db");
    expect(message).not.toContain("secret");
  });

  test.each([[null], [5], ["x"], [[]], [() => {}]])("refuses %j as options", (given) => {
    expect(failure(given)).toMatch(/^invalid_option: queue "users": expected an object of options, got /);
  });

  test("is not fooled by names that every object has", () => {
    expect(failure(JSON.parse('{"__proto__": 1}'))).toMatch(/unknown option "__proto__"/);
    expect(failure({ constructor: 1 })).toMatch(/unknown option "constructor"/);
    expect(failure(Object.create({ maxAttempts: 0 }))).toBe("accepted");
  });
});

describe("the builders", () => {
  test.each([
    ["integer", integer({ min: -3, max: 3 }), [-3, 0, 3], [-4, 4, 1.5, "1", Number.NaN, null, 1n, true]],
    ["integer without bounds", integer(), [2 ** 53 - 1], [2 ** 53, Infinity]],
    ["number", number({ min: 0.5 }), [0.5, 1e300], [0.4, Infinity, Number.NaN, "1"]],
    ["durationMs", durationMs(), [0, 0.25, 315_360_000_000], [-1, 315_360_000_001, Number.NaN, "5s"]],
    ["string", string({ maxLength: 3 }), ["a", "äöü"], ["", "abcd", "a\0", "\ud800", 5, null]],
    ["string of a form", string({ pattern: /^[a-z]+$/, form: "of letters" }), ["abc"], ["ABC", "a b"]],
    ["boolean", boolean(), [true, false], [0, 1, "true", null]],
    ["oneOf", oneOf(["a", "b"]), ["a", "b"], ["c", "", 0, ["a"]]],
    ["fn", fn(), [() => 1], ["() => 1", {}, null]],
    ["list", list(integer(), { maxLength: 2 }), [[], [1], [1, 2]], [[1, 2, 3], [1.5], "12", { length: 0 }]],
    ["optional", optional(integer()), [1], [null, "1"]],
    ["custom", custom("an even number", (v) => (Number(v) % 2 === 0 ? v : undefined)), [2], [3]],
  ])("%s accepts and refuses what it should", (_name, field, good, bad) => {
    for (const value of good) expect(failure({ it: value }, { it: field })).toBe("accepted");
    for (const value of bad)
      expect(failure({ it: value }, { it: field })).toMatch(/^invalid_option: .*expected/);
  });

  test("list names the item that is wrong", () => {
    expect(failure({ them: [1, 2, "x"] }, { them: list(integer()) })).toMatch(
      /option them\[2\]: expected a whole number/,
    );
  });
});
