import assert from "node:assert/strict";
import { concurrencyPolicy } from "../../limit/algorithms/concurrency.ts";
import type { LimitRule } from "../../limit/store.ts";
import type { StoreCheck } from "./store-check.ts";

const two: LimitRule = Object.freeze({ name: "two", policy: concurrencyPolicy(2, 10_000_000) });

/** What holds for concurrency limits. */
export const leaseBehaviours: readonly StoreCheck[] = [
  {
    name: "of many holders at once no more are let in than there are slots",
    async check(store) {
      const asked = Array.from({ length: 50 }, async () => store.consume(two, "k", 1));
      const given = (await Promise.all(asked)).filter(({ allowed }) => allowed);
      assert.equal(given.length, 2);
      assert.notEqual(given[0]!.fence, given[1]!.fence);
    },
  },
  {
    name: "a lease that ran out cannot be renewed, nor released over the head of the next holder",
    async check(store, clock) {
      const first = await store.consume(two, "k", 2);
      clock.advance(10_000_000);
      const second = await store.consume(two, "k", 2);
      assert.equal(second.allowed, true);
      assert.equal(await store.renew(two, "k", first.fence), undefined);
      assert.equal(await store.release(two, "k", first.fence), false);
      assert.equal((await store.peek(two, "k", 1)).allowed, false);
      assert.equal(await store.release(two, "k", second.fence), true);
      assert.equal(await store.release(two, "k", second.fence), false);
      assert.equal((await store.peek(two, "k", 1)).remaining, 2);
    },
  },
  {
    name: "a renewed lease holds for a full term from then on",
    async check(store, clock) {
      const { fence } = await store.consume(two, "k", 2);
      clock.advance(9_999_999);
      assert.equal(await store.renew(two, "k", fence), clock.nowUs() + 10_000_000);
      clock.advance(9_999_999);
      assert.equal((await store.consume(two, "k", 1)).retryAfterUs, 1);
      clock.advance(1);
      assert.equal((await store.consume(two, "k", 1)).allowed, true);
    },
  },
  {
    name: "fences rise also after leases ran out, a reset, and a clock that was set back",
    async check(store, clock) {
      let highest = 0;
      for (const between of [
        () => clock.advance(10_000_000),
        async () => {
          await store.reset(two, "k");
          clock.advance(1);
        },
        () => clock.step(-60_000_000),
        () => clock.advance(100_000_000),
      ]) {
        const { fence, allowed } = await store.consume(two, "k", 1);
        assert.ok(allowed && fence > highest, `${fence} after ${highest}`);
        highest = fence;
        await between();
      }
      assert.equal(await store.renew(two, "k", 1), undefined);
    },
  },
  {
    name: "holders of one key do not touch those of another",
    async check(store) {
      const { fence } = await store.consume(two, "a", 2);
      assert.equal((await store.consume(two, "b", 2)).allowed, true);
      assert.equal(await store.release(two, "b", fence + 1_000_000_000), false);
      assert.equal((await store.peek(two, "a", 1)).allowed, false);
    },
  },
  {
    name: "fewer slots than are held: nobody is thrown out, and nobody let in until enough have left",
    async check(store) {
      const held = await store.consume(two, "k", 2);
      const one: LimitRule = Object.freeze({ name: "two", policy: concurrencyPolicy(1, 10_000_000) });
      const denied = await store.consume(one, "k", 1);
      assert.deepEqual([denied.allowed, denied.remaining, denied.retryAfterUs], [false, 0, 10_000_000]);
      assert.equal(await store.release(one, "k", held.fence), true);
      assert.equal((await store.consume(one, "k", 1)).allowed, true);
    },
  },
];
