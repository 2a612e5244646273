import assert from "node:assert/strict";
import { isSluiceError } from "../../base/errors.ts";
import { parseRate } from "../../base/rate.ts";
import { concurrencyPolicy } from "../../limit/algorithms/concurrency.ts";
import { type RateAlgorithm, ratePolicy } from "../../limit/algorithms/policy.ts";
import { oneOfEach, ruleOf, type StoreCheck } from "./store-check.ts";

/** What holds for each limit by itself. */
export const behaviours: readonly StoreCheck[] = [
  {
    name: "a denial consumes nothing, and retryAfterUs is exact",
    async check(store, clock) {
      for (const rule of oneOfEach("3/10s")) {
        for (let i = 0; i < 3; i++)
          assert.equal((await store.consume(rule, "k", 1)).allowed, true, rule.name);
        const first = await store.consume(rule, "k", 1);
        for (let i = 0; i < 20; i++) assert.deepEqual(await store.consume(rule, "k", 1), first, rule.name);
        clock.advance(first.retryAfterUs - 1);
        assert.equal((await store.consume(rule, "k", 1)).allowed, false, `${rule.name}: 1 µs early`);
        clock.advance(1);
        assert.equal((await store.consume(rule, "k", 1)).allowed, true, `${rule.name}: on time`);
      }
    },
  },
  {
    name: "a cost above the capacity is never admitted and consumes nothing",
    async check(store) {
      for (const rule of oneOfEach("3/10s")) {
        const verdict = await store.consume(rule, "k", 4);
        assert.deepEqual(
          [verdict.allowed, verdict.never, verdict.retryAfterUs],
          [false, true, Infinity],
          rule.name,
        );
        assert.equal(verdict.remaining, 3, rule.name);
        assert.equal((await store.consume(rule, "k", 3)).allowed, true, rule.name);
      }
    },
  },
  {
    name: "a peek changes nothing",
    async check(store) {
      for (const rule of oneOfEach("3/10s")) {
        await store.consume(rule, "k", 1);
        const seen = await store.peek(rule, "k", 2);
        assert.deepEqual([seen.allowed, seen.remaining], [true, 2], rule.name);
        assert.deepEqual(await store.peek(rule, "k", 2), seen, rule.name);
        assert.equal((await store.consume(rule, "k", 2)).allowed, true, rule.name);
      }
    },
  },
  {
    name: "keys and limits do not touch each other, however they are spelled",
    async check(store) {
      const policy = ratePolicy(parseRate("1/h"), { algorithm: "sliding-window" });
      const spellings = [
        "a",
        "a:b",
        "b",
        "A",
        "{a}",
        "a ",
        "a\u0301",
        "á",
        "__proto__",
        "constructor",
        "*",
        "",
      ];
      for (const name of ["l", "l:a", "{l}"]) {
        const rule = Object.freeze({ name, policy });
        for (const key of spellings) {
          assert.equal((await store.consume(rule, key, 1)).allowed, true, `${name} ${JSON.stringify(key)}`);
        }
      }
    },
  },
  {
    name: "a reset makes the whole capacity of that key available, and of no other",
    async check(store) {
      for (const rule of oneOfEach("3/10s")) {
        await store.consume(rule, "k", 3);
        await store.consume(rule, "other", 3);
        await store.reset(rule, "k");
        await store.reset(rule, "never seen");
        assert.equal((await store.peek(rule, "k", 1)).remaining, 3, rule.name);
        assert.equal((await store.peek(rule, "other", 1)).remaining, 0, rule.name);
      }
    },
  },
  {
    name: "of many requests at once exactly the capacity is admitted",
    async check(store) {
      for (const rule of oneOfEach("50/h")) {
        const asked = Array.from({ length: 200 }, async () => store.consume(rule, "k", 1));
        const admitted = (await Promise.all(asked)).filter(({ allowed }) => allowed);
        assert.equal(admitted.length, 50, rule.name);
      }
    },
  },
  {
    name: "up to so many takes what there is, and all of it only once",
    async check(store) {
      for (const rule of oneOfEach("50/h")) {
        await store.consume(rule, "k", 8);
        const asked = Array.from({ length: 20 }, async () => store.consumeUpTo(rule, "k", 5));
        const granted = (await Promise.all(asked)).map((verdict) => verdict.granted);
        assert.deepEqual(granted.toSorted(), [...Array(11).fill(0), 2, ...Array(8).fill(5)], rule.name);
      }
    },
  },
  {
    name: "a debit settled below gives back, above takes the rest, at most once over",
    async check(store, clock) {
      for (const rule of oneOfEach("10/10s")) {
        const { atUs, granted } = await store.consume(rule, "k", 8);
        await store.settle(rule, "k", { atUs, cost: granted }, 3);
        assert.equal((await store.peek(rule, "k", 1)).remaining, 7, rule.name);
        await store.settle(rule, "k", { atUs, cost: 3 }, 5);
        assert.equal((await store.peek(rule, "k", 1)).remaining, 5, rule.name);
        await store.settle(rule, "k", { atUs, cost: 1 }, 1e15);
        const owing = await store.peek(rule, "k", 1);
        assert.deepEqual([owing.allowed, owing.remaining], [false, 0], rule.name);
        clock.advance(20_000_000);
        assert.equal((await store.peek(rule, "k", 1)).allowed, true, `${rule.name}: debts end`);
      }
    },
  },
  {
    name: "a refund that comes when the budget is back already gives nothing",
    async check(store, clock) {
      for (const rule of oneOfEach("10/10s")) {
        const { atUs, granted } = await store.consume(rule, "k", 10);
        clock.advance(20_000_000);
        assert.equal((await store.consume(rule, "k", 10)).allowed, true, rule.name);
        await store.settle(rule, "k", { atUs, cost: granted }, 0);
        assert.equal((await store.peek(rule, "k", 1)).remaining, 0, rule.name);
      }
    },
  },
  {
    name: "a blocked key admits nothing until then, the later of two blocks holds, and 0 lifts it",
    async check(store, clock) {
      for (const rule of oneOfEach("5/s")) {
        await store.block(rule, "k", 3_000_000);
        await store.block(rule, "k", 2_000_000);
        const { allowed, remaining, retryAfterUs } = await store.consume(rule, "k", 1);
        assert.deepEqual([allowed, remaining, retryAfterUs], [false, 0, 3_000_000], rule.name);
        assert.equal((await store.consume(rule, "other", 1)).allowed, true, rule.name);
        clock.advance(2_999_999);
        assert.equal((await store.consume(rule, "k", 1)).allowed, false, rule.name);
        clock.advance(1);
        assert.equal((await store.consume(rule, "k", 5)).allowed, true, rule.name);
        await store.block(rule, "k", 1e15);
        assert.equal(
          (await store.peek(rule, "k", 1)).retryAfterUs,
          86_400_000_000,
          `${rule.name}: a day at most`,
        );
        await store.block(rule, "k", 0);
        clock.advance(1_000_000);
        assert.equal((await store.consume(rule, "k", 1)).allowed, true, `${rule.name}: lifted`);
      }
    },
  },
  {
    name: "another rate under the same name keeps what was consumed (RL11)",
    async check(store) {
      for (const rule of oneOfEach("10/10s")) {
        for (const key of ["raised", "lowered"]) await store.consume(rule, key, 10);
        const raised = ruleOf(rule.policy.algorithm as RateAlgorithm, "20/10s");
        const { remaining } = await store.peek(raised, "raised", 1);
        assert.ok(remaining <= 10, `${rule.name}: raised to 20, ${remaining} remain of 10 more`);
        const lowered = ruleOf(rule.policy.algorithm as RateAlgorithm, "5/10s");
        assert.equal((await store.peek(lowered, "lowered", 1)).remaining, 0, rule.name);
      }
    },
  },
  {
    name: "an emptied bucket is empty also under a slower rate of the same burst (RL11)",
    async check(store, clock) {
      await store.consume(ruleOf("token-bucket", "100/s", 10), "k", 10);
      const slower = ruleOf("token-bucket", "1/s", 10);
      assert.equal((await store.consume(slower, "k", 1)).allowed, false);
      clock.advance(1_000_000);
      assert.ok((await store.peek(slower, "k", 1)).remaining <= 1);
    },
  },
  {
    name: "an idle key is as if it had never been used",
    async check(store, clock) {
      for (const rule of oneOfEach("3/10s")) {
        const fresh = await store.peek(rule, "fresh", 1);
        await store.consume(rule, "k", 3);
        clock.advance(20_000_000);
        const idle = await store.peek(rule, "k", 1);
        const instants = { resetAtUs: 0, atUs: 0 };
        assert.deepEqual({ ...idle, ...instants }, { ...fresh, ...instants }, rule.name);
      }
    },
  },
  {
    name: "a closed store refuses every call with closed",
    async check(store) {
      const [rule] = oneOfEach("3/10s");
      const slots = Object.freeze({ name: "slots", policy: concurrencyPolicy(1, 1_000_000) });
      await store.close();
      await store.close();
      for (const attempt of [
        async () => store.consume(rule!, "k", 1),
        async () => store.consumeUpTo(rule!, "k", 1),
        async () => store.consumeAll([{ rule: rule!, key: "k", cost: 1 }]),
        async () => store.peek(rule!, "k", 1),
        async () => store.settle(rule!, "k", { atUs: 1, cost: 1 }, 0),
        async () => store.block(rule!, "k", 1),
        async () => store.renew(slots, "k", 1),
        async () => store.release(slots, "k", 1),
        async () => store.reset(rule!, "k"),
      ]) {
        await assert.rejects(attempt, (error) => isSluiceError(error, "closed"));
      }
    },
  },
];
