import { isSluiceError, type LimitOptions, limit, memory, parseRate, type RateInput } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { describe, expect, test } from "vitest";

/**
 * Bad input to limits: a typed error that names the matter, nothing consumed, and the limit works on.
 */

async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
    return "accepted";
  } catch (error) {
    return isSluiceError(error) ? error.code : `untyped: ${String(error)}`;
  }
}

describe("a key", () => {
  const perKey = limit("per-key", "1/h", { clock: virtualClock() });

  test.each([
    ["empty", ""],
    ["513 characters", "k".repeat(513)],
    ["a NUL", "a\0b"],
    ["a newline", "a\nb"],
    ["a C1 control", "a\u0085b"],
    ["a lone surrogate", "a\ud800"],
    ["a number", 5],
    ["nothing", undefined],
    ["null", null],
    ["an object", { toString: () => "k" }],
    ["an array", ["k"]],
  ])("that is or holds %s is refused", async (_what, key) => {
    expect(await codeOf(() => perKey.for(key as string))).toBe("invalid_key");
    expect(await codeOf(() => perKey.check(key as string))).toBe("invalid_key");
  });

  test.each([
    ["spaces", "a b"],
    ["braces", "{tag}:k"],
    ["a star", "*"],
    ["a name every object has", "__proto__"],
    ["another such name", "constructor"],
    ["letters of any script", "ключ-キー-🗝"],
    ["512 characters", "k".repeat(512)],
  ])("with %s is a key like any other", async (_what, key) => {
    expect((await perKey.check(key)).allowed).toBe(true);
    expect((await perKey.check(key)).allowed).toBe(false);
  });

  test("is compared exactly: no case folding, no normalisation, no trimming", async () => {
    for (const key of ["é", "e\u0301", "K", "k", " k", "k "])
      expect((await perKey.check(key)).allowed).toBe(true);
  });
});

describe("a cost", () => {
  test.each([[0], [-1], [1.5], [Number.NaN], [Infinity], [2 ** 53], ["1"], [null], [1n], [{}], [[1]]])(
    "of %s is refused and consumes nothing",
    async (cost) => {
      const l = limit("l", "5/s", { clock: virtualClock() });
      const given = cost as number;
      const attempts = [
        () => l.tryAcquire(given),
        () => l.acquire(given),
        () => l.peek(given),
        () => l.check("k", given),
        () => l.for("k").tryAcquire(given),
      ];
      for (const attempt of attempts) expect(await codeOf(attempt)).toBe("invalid_cost");
      expect(await l.available()).toBe(5);
    },
  );

  test("above the capacity is never admitted, and a wait for it fails at once", async () => {
    const l = limit("l", "5/s", { clock: virtualClock() });
    expect(await l.tryAcquire(6)).toMatchObject({ allowed: false, never: true, retryAfterMs: Infinity });
    expect(await l.tryAcquire(2 ** 53 - 1)).toMatchObject({ never: true });
    expect(await codeOf(() => l.acquire(6))).toBe("cost_exceeds_capacity");
    expect(await l.available()).toBe(5);
  });
});

describe("a policy", () => {
  test.each<[string, unknown, object, string]>([
    ["limit 0", "0/s", {}, "invalid_rate"],
    ["period 0", "5/0s", {}, "invalid_rate"],
    ["negative limit", "-1/s", {}, "invalid_rate"],
    ["no period", "5", {}, "invalid_rate"],
    ["nothing", undefined, {}, "invalid_rate"],
    ["NaN", { limit: Number.NaN, periodMs: 1 }, {}, "invalid_rate"],
    ["limit 10^12", "1000000000000/s", {}, "invalid_rate"],
    ["period beyond 10 years", "1/3651d", {}, "invalid_rate"],
    ["burst 0", "5/s", { burst: 0 }, "invalid_option"],
    ["burst NaN", "5/s", { burst: Number.NaN }, "invalid_option"],
    ["unknown option", "5/s", { brust: 5 }, "invalid_option"],
    ["unknown algorithm", "5/s", { algorithm: "leaky" }, "invalid_option"],
    ["a bucket that never fills", "1/3650d", { burst: 1000 }, "invalid_option"],
  ])("with %s is refused", async (_what, rate, options, code) => {
    expect(await codeOf(() => limit("l", rate as RateInput, options as LimitOptions))).toBe(code);
  });

  test.each([["1/1ms"], ["1/3650d"], ["1000000/3650d"]])("of %s is fine", async (rate) => {
    const l = limit("l", rate, { clock: virtualClock() });
    expect((await l.tryAcquire()).remaining).toBe(parseRate(rate).limit - 1);
  });
});

describe("a flood", () => {
  test("of fresh keys neither fills memory nor frees those in use", async () => {
    const store = memory({ clock: virtualClock(), maxKeys: 1_000 });
    const perKey = limit("flood", "1/h", { store });
    await perKey.check("victim");
    let refused = 0;
    for (let i = 0; i < 20_000; i++) {
      if ((await codeOf(() => perKey.check(`k${i}`))) === "too_many_keys") refused++;
    }
    expect([store.keyCount, refused]).toEqual([1_000, 19_001]);
    expect((await perKey.check("victim")).allowed).toBe(false);
  });

  test("of waiters is bounded", async () => {
    const l = limit("l", "1/h", { maxWaiters: 1_000, clock: virtualClock() });
    const waits = Array.from({ length: 5_000 }, () => codeOf(() => l.acquire()));
    await l.close();
    const codes = await Promise.all(waits);
    const count = (code: string): number => codes.filter((each) => each === code).length;
    expect([count("accepted"), count("closed"), count("too_many_waiters")]).toEqual([1, 1_000, 3_999]);
  });
});
