import assert from "node:assert/strict";
import { concurrencyPolicy } from "../../limit/algorithms/concurrency.ts";
import type { Draw } from "../../limit/store.ts";
import { oneOfEach, ruleOf, type StoreCheck } from "./store-check.ts";

/** One of each algorithm at 3/10s, and one slot. */
function drawsOf(key: string, cost: number): readonly Draw[] {
  const slot = Object.freeze({ name: "slot", policy: concurrencyPolicy(1, 60_000_000) });
  return [...oneOfEach("3/10s").map((rule) => ({ rule, key, cost })), { rule: slot, key, cost: 1 }];
}

/** What holds for decisions over several limits. */
export const groupBehaviours: readonly StoreCheck[] = [
  {
    name: "all or nothing: one refusal, and none of the others is debited (RL4)",
    async check(store) {
      const draws = drawsOf("k", 1);
      const full = draws[1]!;
      await store.consume(full.rule, "k", 3);
      const before = await Promise.all(draws.map(async ({ rule }) => store.peek(rule, "k", 1)));
      for (let i = 0; i < 5; i++) {
        const verdicts = await store.consumeAll(draws);
        assert.deepEqual(
          verdicts.map(({ allowed, granted }) => [allowed, granted]),
          draws.map((draw) => [draw !== full, 0]),
        );
      }
      const after = await Promise.all(draws.map(async ({ rule }) => store.peek(rule, "k", 1)));
      assert.deepEqual(after, before);
    },
  },
  {
    name: "every limit that refuses says so, each with its own exact time",
    async check(store, clock) {
      const [bucket, sliding] = [ruleOf("token-bucket", "1/10s"), ruleOf("sliding-window", "1/4s")];
      const draws = [bucket, sliding].map((rule) => ({ rule, key: "k", cost: 1 }));
      assert.ok((await store.consumeAll(draws)).every(({ allowed, granted }) => allowed && granted === 1));
      clock.advance(1_000_000);
      const refused = await store.consumeAll(draws);
      assert.deepEqual(
        refused.map(({ retryAfterUs }) => retryAfterUs),
        [9_000_000, 3_000_000],
      );
      clock.advance(8_999_999);
      assert.deepEqual(
        (await store.consumeAll(draws)).map(({ allowed }) => allowed),
        [false, true],
      );
      clock.advance(1);
      assert.ok((await store.consumeAll(draws)).every(({ granted }) => granted === 1));
    },
  },
  {
    name: "groups that overlap, all at once, in any order, take exactly what each limit has",
    async check(store) {
      const [one, two, three] = oneOfEach("40/h");
      const groups = [
        [one!, two!],
        [two!, three!],
        [three!, one!],
        [three!, two!, one!],
      ];
      const debited = new Map<string, number>();
      const asked = Array.from({ length: 120 }, async (_, i) => {
        const rules = groups[i % groups.length]!;
        const verdicts = await store.consumeAll(rules.map((rule) => ({ rule, key: "k", cost: 1 })));
        const granted = verdicts.map((verdict) => verdict.granted);
        assert.ok(
          granted.every((cost) => cost === granted[0]),
          "all of a group or none",
        );
        if (granted[0] === 1) for (const { name } of rules) debited.set(name, (debited.get(name) ?? 0) + 1);
      });
      await Promise.all(asked);
      for (const rule of [one!, two!, three!]) {
        const { remaining } = await store.peek(rule, "k", 1);
        assert.equal(remaining, 40 - (debited.get(rule.name) ?? 0), rule.name);
      }
      assert.equal(Math.max(...debited.values()), 40);
    },
  },
  {
    name: "a blocked key holds up its whole group",
    async check(store) {
      const draws = drawsOf("k", 1);
      await store.block(draws[0]!.rule, "k", 5_000_000);
      const verdicts = await store.consumeAll(draws);
      assert.deepEqual(
        verdicts.map(({ allowed, granted, retryAfterUs }) => [allowed, granted, retryAfterUs]),
        draws.map((_, i) => (i === 0 ? [false, 0, 5_000_000] : [true, 0, 0])),
      );
    },
  },
  {
    name: "a group with a slot gives the lease of it",
    async check(store) {
      const draws = drawsOf("k", 1);
      const slot = draws.at(-1)!;
      const [first, second] = [await store.consumeAll(draws), await store.consumeAll(draws)];
      assert.ok(first.at(-1)!.fence > 0);
      assert.deepEqual([second.at(-1)!.allowed, second.at(-1)!.fence, second[0]!.allowed], [false, 0, true]);
      assert.equal(await store.release(slot.rule, "k", first.at(-1)!.fence), true);
      assert.ok((await store.consumeAll(draws)).at(-1)!.fence > first.at(-1)!.fence);
    },
  },
];
