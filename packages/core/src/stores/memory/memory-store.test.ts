import { describe, expect, test } from "vitest";
import { isSluiceError } from "../../base/errors.ts";
import { parseRate } from "../../base/rate.ts";
import { type RateAlgorithm, ratePolicy } from "../../limit/algorithms/policy.ts";
import type { LimitRule } from "../../limit/store.ts";
import { virtualClock } from "../../testing/virtual-clock.ts";
import { memory } from "./memory-store.ts";

const second = 1_000_000;

function ruleOf(name: string, rate = "2/s", algorithm: RateAlgorithm = "sliding-window"): LimitRule {
  return { name, policy: ratePolicy(parseRate(rate), { algorithm }) };
}

function codeOf(work: () => unknown): string {
  try {
    work();
    return "none";
  } catch (error) {
    return isSluiceError(error) ? error.code : String(error);
  }
}

describe("the memory store", () => {
  test("holds as many keys in use as it may and refuses more, without forgetting any", () => {
    const clock = virtualClock();
    const store = memory({ clock, maxKeys: 100 });
    const rule = ruleOf("l");
    for (let i = 0; i < 100; i++) store.consume(rule, `k${i}`, 2);
    expect(codeOf(() => store.consume(rule, "one more", 1))).toBe("too_many_keys");
    expect(store.keyCount).toBe(100);
    for (let i = 0; i < 100; i++) expect(store.consume(rule, `k${i}`, 1).allowed).toBe(false);
  });

  test("makes room by dropping keys whose whole capacity is back", () => {
    const clock = virtualClock();
    const store = memory({ clock, maxKeys: 100 });
    const rule = ruleOf("l");
    for (let i = 0; i < 100; i++) store.consume(rule, `old${i}`, 1);
    clock.advance(second);
    for (let i = 0; i < 100; i++) expect(store.consume(rule, `new${i}`, 2).allowed).toBe(true);
    expect(store.keyCount).toBe(100);
    for (let i = 0; i < 100; i++) expect(store.consume(rule, `new${i}`, 1).allowed).toBe(false);
  });

  test.each([["token-bucket"], ["sliding-window"], ["fixed-window"]] as const)(
    "stays small under a stream of fresh keys: %s",
    (algorithm) => {
      const clock = virtualClock();
      const store = memory({ clock });
      const rule = ruleOf("l", "2/s", algorithm);
      let most = 0;
      for (let i = 0; i < 20_000; i++) {
        store.consume(rule, `k${i}`, 1);
        clock.advance(10_000);
        most = Math.max(most, store.keyCount);
      }
      // 100 new keys a second, each in use for a second at the most.
      expect(most).toBeLessThanOrEqual(300);
    },
  );

  test("bounds the keys of all its limits together", () => {
    const clock = virtualClock();
    const store = memory({ clock, maxKeys: 10 });
    const [one, two] = [ruleOf("one"), ruleOf("two")];
    for (let i = 0; i < 5; i++) {
      store.consume(one, `k${i}`, 1);
      store.consume(two, `k${i}`, 1);
    }
    expect(codeOf(() => store.consume(one, "k5", 1))).toBe("too_many_keys");
    clock.advance(second);
    expect(store.consume(one, "k5", 1).allowed).toBe(true);
  });

  test("keeps nothing for a peek, a denial of a fresh key, or a reset", () => {
    const store = memory({ clock: virtualClock() });
    const rule = ruleOf("l");
    store.peek(rule, "a", 1);
    store.consume(rule, "b", 3);
    expect(store.keyCount).toBe(0);
    store.consume(rule, "c", 1);
    expect(store.keyCount).toBe(1);
    store.reset(rule, "c");
    store.reset(rule, "c");
    expect(store.keyCount).toBe(0);
  });

  test("another rule of the same name takes the place of the old one, also for those who still hold that", () => {
    const store = memory({ clock: virtualClock() });
    const old = ruleOf("l", "4/s");
    store.consume(old, "k", 3);
    const raised = ruleOf("l", "10/s");
    expect(store.peek(raised, "k", 1).remaining).toBe(7);
    expect(store.consume(old, "k", 1).remaining).toBe(6);
    expect(store.peek(ruleOf("l", "10/s"), "k", 1).remaining).toBe(6);
  });

  const algorithms = ["token-bucket", "sliding-window", "fixed-window"] as const;
  const changes = algorithms.flatMap((from) => algorithms.map((to) => [from, to] as const));
  test.each(changes)("keeps what was consumed when %s becomes %s", (from, to) => {
    const store = memory({ clock: virtualClock() });
    for (let i = 0; i < 20; i++) store.consume(ruleOf("l", "10/s", from), `k${i}`, 1 + (i % 10));
    store.block(ruleOf("l", "10/s", from), "k0", 500);
    const other = ruleOf("l", "12/s", to);
    for (let i = 1; i < 20; i++) expect(store.peek(other, `k${i}`, 1).remaining).toBe(11 - (i % 10));
    expect(store.peek(other, "k0", 1)).toMatchObject({ allowed: false, retryAfterUs: 500 });
    expect(store.keyCount).toBe(21);
  });

  test("drops an ended block, and counts a key that is only blocked", () => {
    const clock = virtualClock();
    const store = memory({ clock });
    const rule = ruleOf("l");
    for (let i = 0; i < 10; i++) store.block(rule, `k${i}`, second);
    expect(store.keyCount).toBe(10);
    clock.advance(second);
    for (let i = 0; i < 10; i++) store.consume(rule, `fresh${i}`, 1);
    expect(store.keyCount).toBe(10);
  });

  test("debits nobody when there is no room for all of a group", () => {
    const store = memory({ clock: virtualClock(), maxKeys: 2 });
    const rules = ["a", "b", "c"].map((name) => ruleOf(name));
    const draws = rules.map((rule) => ({ rule, key: "k", cost: 1 }));
    expect(codeOf(() => store.consumeAll(draws))).toBe("too_many_keys");
    for (const rule of rules) expect(store.peek(rule, "k", 1).remaining).toBe(2);
    expect(store.consumeAll(draws.slice(0, 2)).map(({ granted }) => granted)).toEqual([1, 1]);
  });

  test.each([[{ maxKeys: 0 }], [{ maxKeys: 1.5 }], [{ clock: {} }], [{ max: 5 }]])(
    "refuses the options %j",
    (options) => {
      expect(codeOf(() => memory(options as never))).toBe("invalid_option");
    },
  );
});
