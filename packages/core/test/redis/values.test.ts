/** What is kept in Redis: how much of it, for how long, and what happens to what is not ours. */
import { concurrencyPolicy, type Policy, parseRate, ratePolicy } from "@sluice/core";
import { type RedisStore, redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { startRedis } from "../../../../tools/servers/redis.ts";
import { freshRedis } from "../../../../tools/testing/redis.ts";
import type { LimitRule } from "../../src/limit/store.ts";

const { url, prefix } = freshRedis("values");
const client = new Redis(url, { lazyConnect: true });
afterAll(() => client.disconnect());

const rule = (name: string, policy: Policy): LimitRule => Object.freeze({ name, policy });
const bucket = rule("bucket", ratePolicy(parseRate("100/60s"), { algorithm: "token-bucket" }));
const log = rule("log", ratePolicy(parseRate("100/60s"), { algorithm: "sliding-window" }));
const cells = rule("cells", ratePolicy(parseRate("100000/60s"), { algorithm: "sliding-window" }));
const window = rule("window", ratePolicy(parseRate("100/60s"), { algorithm: "fixed-window" }));
const slots = rule("slots", concurrencyPolicy(100, 60_000_000));
const all = [bucket, log, cells, window, slots];

let count = 0;
function freshStore(): { store: RedisStore; own: string } {
  const own = `${prefix}:${count++}`;
  return { store: redis(client, { prefix: own }), own };
}

describe("memory", () => {
  const clients = Array.from({ length: 1_000 }, (_, i) => `user:${i}`);

  /** What a server of its own uses after `work` more than before, in bytes, with no client but the one that asks. */
  async function gained(work: (store: RedisStore) => Promise<void>): Promise<number> {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const visit = async <T>(what: (client: Redis) => Promise<T>): Promise<T> => {
      const visitor = new Redis(server.port);
      try {
        return await what(visitor);
      } finally {
        await visitor.quit();
      }
    };
    const used = (): Promise<number> =>
      visit(async (visitor) => Number(/used_memory:(\d+)/.exec(await visitor.info("memory"))![1]));
    // The scripts are there already.
    await visit(async (visitor) => {
      const store = redis(visitor);
      for (const each of [bucket, log, window]) await store.consume(each, "warm-up", 1);
      await store.peek(bucket, "warm-up", 1);
    });
    const before = await used();
    await visit((visitor) => work(redis(visitor)));
    return (await used()) - before;
  }

  test("of 1 000 clients' token buckets is at most 0.25 MB", async () => {
    const bytes = await gained(async (store) => {
      for (let i = 0; i < 20; i++) await Promise.all(clients.map((key) => store.consume(bucket, key, 1)));
    });
    expect(bytes).toBeLessThan(250_000);
    expect(bytes).toBeGreaterThan(50_000);
  });

  test("of 1 000 clients' sliding windows, used to the full at 100/60s, is at most 1 MB", async () => {
    const bytes = await gained(async (store) => {
      for (let i = 0; i < 100; i++) await Promise.all(clients.map((key) => store.consume(log, key, 1)));
      const { remaining } = await store.peek(log, "user:7", 1);
      expect(remaining).toBe(0);
    });
    expect(bytes).toBeLessThan(1_000_000);
    expect(bytes).toBeGreaterThan(500_000);
  });
});

describe("time to live", () => {
  test("every key has one, whatever was done to it", async () => {
    const { store, own } = freshStore();
    for (const each of all) {
      const { atUs, granted, fence } = await store.consume(each, `consumed ${each.name}`, 3);
      await store.block(each, `blocked ${each.name}`, 5_000_000);
      await store.consumeAll(all.map((one) => ({ rule: one, key: `all ${each.name}`, cost: 1 })));
      if (each === slots) await store.renew(each, `consumed ${each.name}`, fence);
      else {
        await store.settle(each, `consumed ${each.name}`, { atUs, cost: granted }, 150);
        await store.consumeUpTo(each, `up to ${each.name}`, 1_000);
      }
    }
    const keys = await client.keys(`${own.replaceAll("*", "\\*")}:*`);
    expect(keys.length).toBe(19);
    for (const key of keys) {
      const ttl = await client.pttl(key);
      expect(ttl, key).toBeGreaterThan(0);
      expect(ttl, key).toBeLessThan(3_800_000);
    }
  });

  test("is prolonged by later debits, before it ends", async () => {
    const { store, own } = freshStore();
    const slow = rule("slow", ratePolicy(parseRate("10/100s"), { algorithm: "token-bucket" }));
    await store.consume(slow, "k", 1);
    const first = await client.pttl(`${own}:{k}`);
    expect(first).toBeGreaterThan(10_000);
    await store.consume(slow, "k", 9);
    expect(await client.pttl(`${own}:{k}`)).toBeGreaterThan(100_000);
  });

  test("a limit that is done does not shorten that of another on the same subject", async () => {
    const { store, own } = freshStore();
    const short = rule("short", ratePolicy(parseRate("10/10ms"), { algorithm: "fixed-window" }));
    await store.consume(log, "k", 1);
    await store.consume(short, "k", 1);
    await store.reset(short, "k");
    expect(await client.pttl(`${own}:{k}`)).toBeGreaterThan(59_000);
    expect((await store.peek(log, "k", 1)).remaining).toBe(99);
  });

  test("nothing is kept of what was reset or wholly given back, nor of a denial", async () => {
    const { store, own } = freshStore();
    for (const each of [bucket, log, window]) {
      const { atUs, granted } = await store.consume(each, "k", 2);
      await store.settle(each, "k", { atUs, cost: granted }, 0);
      await store.consume(each, "never", 101);
      await store.consume(each, "reset", 1);
      await store.reset(each, "reset");
      await store.block(each, "lifted", 1_000);
      await store.block(each, "lifted", 0);
    }
    const left = await Promise.all(
      ["never", "reset", "lifted"].map((key) => client.exists(`${own}:{${key}}`)),
    );
    expect(left).toEqual([0, 0, 0]);
  });
});

describe("values that are not ours", () => {
  const foreign: readonly [what: string, put: (key: string, field: string) => Promise<unknown>][] = [
    ["a string", (key) => client.set(key, "something else")],
    ["a list", (key) => client.rpush(key, "a", "b")],
    ["an empty field", (key, field) => client.hset(key, field, "")],
    ["a number", (key, field) => client.hset(key, field, "12345")],
    ["half a value", (key, field) => client.hset(key, field, "t2s.zik0zk.2s:abc")],
    ["half a block", (key, field) => client.hset(key, field, "B123456")],
    ["a header that is none", (key, field) => client.hset(key, field, `s!!.??.--:${"x".repeat(40)}`)],
    [
      "a log of a length that cannot be",
      (key, field) => client.hset(key, field, `s2s.zik0zk.2s:${"x".repeat(21)}`),
    ],
  ];

  test.each(foreign)("count as none, are counted, and give way: %s", async (_, put) => {
    const { store, own } = freshStore();
    for (const each of all) {
      const key = `k-${each.name}`;
      await put(`${own}:{${key}}`, each.name);
      const before = store.foreignValues;
      expect((await store.peek(each, key, 1)).remaining).toBe(each.policy.capacity);
      expect(store.foreignValues).toBe(before + 1);
      expect((await store.consume(each, key, 1)).allowed).toBe(true);
      expect(store.foreignValues).toBe(before + 2);
      expect((await store.peek(each, key, 1)).remaining).toBe(each.policy.capacity - 1);
      expect(store.foreignValues).toBe(before + 2);
      expect(await client.pttl(`${own}:{${key}}`)).toBeGreaterThan(0);
    }
  });

  test("do not disturb other keys of the same turn", async () => {
    const { store, own } = freshStore();
    await client.set(`${own}:{k5}`, "something else");
    const asked = Array.from({ length: 20 }, (_, i) => store.consume(bucket, `k${i}`, 1));
    expect((await Promise.all(asked)).every(({ allowed, remaining }) => allowed && remaining === 99)).toBe(
      true,
    );
    expect(store.foreignValues).toBe(1);
  });
});

describe("a live change of rate", () => {
  test("keeps what was consumed, for every pair of algorithms and rates (RL11)", async () => {
    const rates = ["10/10s", "20/10s", "5/60s", "40000/60s", "10/60d"];
    for (const from of [bucket, log, window]) {
      for (const to of [bucket, log, window]) {
        for (const [i, rate] of rates.entries()) {
          const { store } = freshStore();
          const one = rule(
            "l",
            ratePolicy(parseRate("10/10s"), { algorithm: from.policy.algorithm as "token-bucket" }),
          );
          const two = rule(
            "l",
            ratePolicy(parseRate(rate), { algorithm: to.policy.algorithm as "token-bucket" }),
          );
          await store.consume(one, "k", 4);
          const { remaining } = await store.peek(two, "k", 1);
          const label = `${from.name} to ${to.name} ${rate}`;
          expect(remaining, label).toBe(Math.max(0, two.policy.capacity - 4));
          if (i === 0) expect((await store.consume(two, "k", 6)).allowed, label).toBe(true);
        }
      }
    }
  });
});

describe("the store", () => {
  let store: RedisStore;
  beforeAll(() => {
    ({ store } = freshStore());
  });

  test("is on the server's clock", async () => {
    const [seconds] = await client.time();
    const { atUs } = await store.peek(bucket, "clock", 1);
    expect(Math.abs(atUs / 1e6 - Number(seconds))).toBeLessThan(5);
  });

  test("refuses what is no client and options that it does not know", () => {
    expect(() => redis({} as never)).toThrow(
      "redis store: option client: expected a client of ioredis, iovalkey or node-redis",
    );
    expect(() => redis(undefined as never)).toThrow("expected a client of ioredis");
    expect(() => redis(client, { prefix: "{a}" })).toThrow("option prefix");
    expect(() => redis(client, { prefx: "a" } as never)).toThrow("did you mean prefix?");
  });
});
