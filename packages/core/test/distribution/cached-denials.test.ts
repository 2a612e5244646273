import {
  cachedDenials,
  type LimitRule,
  type LimitStore,
  leased,
  limit,
  memory,
  parseRate,
  ratePolicy,
} from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { farStore } from "./far-store.ts";

function ruleOf(
  rate: string,
  name = "l",
  algorithm: "sliding-window" | "token-bucket" | "fixed-window" = "sliding-window",
): LimitRule {
  return Object.freeze({ name, policy: ratePolicy(parseRate(rate), { algorithm }) });
}

function scene(options: { ttlMs?: number; maxKeys?: number; backUs?: number } = {}) {
  const { backUs = 0, ...rest } = options;
  const clock = virtualClock();
  const near = memory({ clock });
  const far = farStore(near, clock, { backUs: () => backUs });
  const store = cachedDenials(far, { clock, ...rest });
  return { clock, near, far, store };
}

describe("cached denials", () => {
  test("a denial is repeated without asking until its time, and counts down to the microsecond", async () => {
    const { clock, far, store } = scene();
    const rule = ruleOf("1/500ms");
    await store.consume(rule, "k", 1);
    const first = await store.consume(rule, "k", 1);
    expect([first.allowed, first.retryAfterUs, far.asked.length]).toEqual([false, 500_000, 2]);
    clock.advance(499_999);
    expect(store.consume(rule, "k", 1)).toEqual({ ...first, retryAfterUs: 1, atUs: clock.nowUs() });
    clock.advance(1);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
    expect(far.asked.length).toBe(3);
  });

  test("another cost is another question: a smaller one passes, a larger one has its own time", async () => {
    const { store } = scene();
    const rule = ruleOf("10/s");
    await store.consume(rule, "k", 8);
    expect((await store.consume(rule, "k", 5)).allowed).toBe(false);
    expect((await store.consume(rule, "k", 2)).allowed).toBe(true);
    expect((await store.consume(rule, "k", 20)).never).toBe(true);
  });

  test("keys and limits do not share denials", async () => {
    const { store } = scene();
    await store.consume(ruleOf("1/s", "a"), "k", 1);
    expect((await store.consume(ruleOf("1/s", "a"), "k", 1)).allowed).toBe(false);
    expect((await store.consume(ruleOf("1/s", "a"), "k2", 1)).allowed).toBe(true);
    expect((await store.consume(ruleOf("1/s", "b"), "k", 1)).allowed).toBe(true);
  });

  test.each([
    ["reset", (store: LimitStore, rule: LimitRule) => store.reset(rule, "k")],
    [
      "a settle that gives back",
      (store: LimitStore, rule: LimitRule, atUs: number) => store.settle(rule, "k", { atUs, cost: 1 }, 0),
    ],
  ])("%s lets the next one through", async (_, change) => {
    const { store } = scene();
    const rule = ruleOf("1/h");
    const { atUs } = await store.consume(rule, "k", 1);
    await store.consume(rule, "k", 1);
    await change(store, rule, atUs);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  });

  test("a block that is lifted is forgotten", async () => {
    const { store } = scene();
    const rule = ruleOf("10/h");
    await store.block(rule, "k", 60_000_000);
    expect((await store.consume(rule, "k", 1)).retryAfterUs).toBe(60_000_000);
    await store.block(rule, "k", 0);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  });

  test("a denial that was under way while the key was reset is not remembered", async () => {
    const { clock, store } = scene({ backUs: 1000 });
    const rule = ruleOf("1/h");
    void store.consume(rule, "k", 1);
    await clock.advanceAsync(1000);
    const denial = store.consume(rule, "k", 1);
    await clock.advanceAsync(500);
    const reset = store.reset(rule, "k");
    await clock.advanceAsync(1000);
    expect((await denial).allowed).toBe(false);
    await reset;
    const next = store.consume(rule, "k", 1);
    await clock.advanceAsync(1000);
    expect((await next).allowed).toBe(true);
  });

  test("nor is one that overtook the reset on its way", async () => {
    const clock = virtualClock();
    let thereUs = 2000;
    const far = farStore(memory({ clock }), clock, { thereUs: () => thereUs });
    const store = cachedDenials(far, { clock });
    const rule = ruleOf("1/h");
    void store.consume(rule, "k", 1);
    await clock.advanceAsync(2000);
    const reset = store.reset(rule, "k");
    thereUs = 100;
    const denial = store.consume(rule, "k", 1);
    await clock.advanceAsync(2000);
    expect((await denial).allowed).toBe(false);
    await reset;
    const next = store.consume(rule, "k", 1);
    await clock.advanceAsync(100);
    expect((await next).allowed).toBe(true);
  });

  test("another rate of the limit begins with nothing remembered", async () => {
    const { store } = scene();
    await store.consume(ruleOf("1/h"), "k", 1);
    expect((await store.consume(ruleOf("1/h"), "k", 1)).allowed).toBe(false);
    expect((await store.consume(ruleOf("5/h"), "k", 1)).allowed).toBe(true);
  });

  test("two objects of the same rule share what is remembered, and what is forgotten", async () => {
    const { store, far } = scene();
    await store.consume(ruleOf("1/h"), "k", 1);
    await store.consume(ruleOf("1/h"), "k", 1);
    await store.consume(ruleOf("1/h"), "k", 1);
    expect(far.asked.length).toBe(2);
    await store.reset(ruleOf("1/h"), "k");
    expect((await store.consume(ruleOf("1/h"), "k", 1)).allowed).toBe(true);
  });

  test("what another process gives back is seen after ttlMs at the latest", async () => {
    const { clock, near, store } = scene({ ttlMs: 200 });
    const rule = ruleOf("1/h");
    await store.consume(rule, "k", 1);
    await store.consume(rule, "k", 1);
    near.reset(rule, "k");
    clock.advance(199_999);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(false);
    clock.advance(1);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  });

  test("counts from when the question was sent, so that a slow answer never denies for too long", async () => {
    const { clock, far, store } = scene({ backUs: 30_000 });
    const rule = ruleOf("1/100ms");
    void store.consume(rule, "k", 1);
    const denial = store.consume(rule, "k", 1);
    await clock.advanceAsync(99_999);
    expect((await denial).retryAfterUs).toBe(100_000);
    expect(await store.consume(rule, "k", 1)).toMatchObject({ allowed: false, retryAfterUs: 1 });
    clock.advance(1);
    const next = store.consume(rule, "k", 1);
    await clock.advanceAsync(30_000);
    expect([(await next).allowed, far.asked.length]).toEqual([true, 3]);
  });

  test("remembers at most maxKeys denials for each limit, the latest", async () => {
    const { far, store } = scene({ maxKeys: 100 });
    const rule = ruleOf("1/h");
    for (let i = 0; i < 1000; i++) {
      await store.consume(rule, `k${i}`, 1);
      await store.consume(rule, `k${i}`, 1);
    }
    far.asked.length = 0;
    for (let i = 0; i < 1000; i++) await store.consume(rule, `k${i}`, 2);
    far.asked.length = 0;
    for (let i = 999; i >= 0; i--) await store.consume(rule, `k${i}`, 2);
    expect(far.asked.length).toBe(900);
  });

  test("a failure is not remembered", async () => {
    const clock = virtualClock();
    let isDown = true;
    const far = farStore(memory({ clock }), clock, { fate: () => (isDown ? "refuse" : "arrive") });
    const store = cachedDenials(far, { clock });
    await expect(store.consume(ruleOf("1/h"), "k", 1)).rejects.toThrow("ECONNREFUSED");
    isDown = false;
    expect((await store.consume(ruleOf("1/h"), "k", 1)).allowed).toBe(true);
  });

  test("goes inside leased, never around it, and never twice", () => {
    const store = memory();
    expect(() => cachedDenials(leased(store))).toThrow("cachedDenials: cannot go around leased");
    expect(() => cachedDenials(cachedDenials(store))).toThrow(/each of them once/);
    expect(() => cachedDenials({} as never)).toThrow(/expected a store, got {}/);
    for (const options of [{ ttlMs: 0 }, { ttlMs: Number.NaN }, { maxKeys: 0 }, { ttl: 5 }])
      expect(() => cachedDenials(store, options as never)).toThrow(
        expect.objectContaining({ code: "invalid_option" }),
      );
  });

  test("those who wait in acquire are served on time through it", async () => {
    const clock = virtualClock();
    const far = farStore(memory({ clock }), clock);
    const l = limit("l", "1/100ms", { clock, store: cachedDenials(far, { clock }) });
    const starts: number[] = [];
    const startUs = clock.nowUs();
    const all = [0, 1, 2, 3].map(() => l.acquire().then(() => starts.push(clock.nowUs() - startUs)));
    await clock.advanceAsync(400_000);
    await Promise.all(all);
    expect(starts).toEqual([0, 100_000, 200_000, 300_000]);
  });
});

describe("cached denials, over random histories", () => {
  const algorithms = ["sliding-window", "token-bucket", "fixed-window"] as const;
  const step = fc.record({
    afterUs: fc.oneof(fc.constant(0), fc.nat(400_000), fc.nat(3_000_000)),
    what: fc.oneof(
      { weight: 12, arbitrary: fc.constant("consume" as const) },
      { weight: 3, arbitrary: fc.constant("consumeUpTo" as const) },
      {
        weight: 1,
        arbitrary: fc.constantFrom("reset" as const, "block" as const, "settle" as const, "lift" as const),
      },
    ),
    cost: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.integer({ min: 1, max: 6 })),
    key: fc.constantFrom("a", "b"),
  });

  test("answer allowed or not exactly as the store alone would, never with a longer wait", async () => {
    const property = fc.asyncProperty(
      fc.constantFrom(...algorithms),
      fc.array(step, { maxLength: 60 }),
      async (algorithm, steps) => {
        const clock = virtualClock();
        const alone = memory({ clock });
        const cached = cachedDenials(memory({ clock }), { clock, ttlMs: 60_000 });
        const rule = ruleOf("4/s", "l", algorithm);
        let charge = { atUs: 0, cost: 0 };
        for (const { afterUs, what, cost, key } of steps) {
          clock.advance(afterUs);
          if (what === "reset") for (const store of [alone, cached]) await store.reset(rule, key);
          else if (what === "block")
            for (const store of [alone, cached]) await store.block(rule, key, 700_000);
          else if (what === "lift") for (const store of [alone, cached]) await store.block(rule, key, 0);
          else if (what === "settle") {
            if (charge.cost === 0) continue;
            for (const store of [alone, cached]) await store.settle(rule, key, charge, 0);
            charge = { atUs: 0, cost: 0 };
          } else {
            const expected = alone[what](rule, key, cost);
            const seen = await cached[what](rule, key, cost);
            expect([seen.allowed, seen.granted, seen.never]).toEqual([
              expected.allowed,
              expected.granted,
              expected.never,
            ]);
            expect(seen.retryAfterUs).toBeLessThanOrEqual(expected.retryAfterUs);
            if (!seen.allowed) expect(seen.retryAfterUs).toBeGreaterThan(0);
            if (seen.allowed) charge = { atUs: seen.atUs, cost: seen.granted };
          }
        }
      },
    );
    await fc.assert(property, { numRuns: 1500 });
  });
});
