/** How calls travel: together, merged, in order, and without waiting for others. */
import { parseRate, ratePolicy } from "@sluice/core";
import { redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { afterAll, beforeEach, expect, test } from "vitest";
import { freshRedis } from "../../../../tools/testing/redis.ts";
import type { LimitRule } from "../../src/limit/store.ts";

const { url, prefix } = freshRedis("batching");
const client = new Redis(url, { lazyConnect: true });
afterAll(() => client.disconnect());

/** The client, and a note of how many keys each call of the script named. */
const keysOfCalls: number[] = [];
const watched = {
  evalsha: (sha: string, keys: number, ...rest: string[]) => {
    keysOfCalls.push(keys);
    return client.evalsha(sha, keys, ...rest);
  },
  eval: (script: string, keys: number, ...rest: string[]) => client.eval(script, keys, ...rest),
};
let count = 0;
let store = redis(watched, { prefix });

beforeEach(async () => {
  store = redis(watched, { prefix: `${prefix}:${count++}` });
  await store.peek(bucket, "warm-up", 1);
  keysOfCalls.length = 0;
});

const bucket: LimitRule = Object.freeze({
  name: "bucket",
  policy: ratePolicy(parseRate("100/h"), { algorithm: "token-bucket" }),
});
const log: LimitRule = Object.freeze({
  name: "log",
  policy: ratePolicy(parseRate("100/h"), { algorithm: "sliding-window" }),
});

test("calls of one turn go together, up to 64 keys", async () => {
  await Promise.all(Array.from({ length: 150 }, (_, i) => store.consume(bucket, `k${i}`, 1)));
  expect(keysOfCalls).toEqual([64, 64, 22]);
});

test("calls for one key and cost become one check, and each gets its own verdict", async () => {
  for (const rule of [bucket, log]) {
    keysOfCalls.length = 0;
    const verdicts = await Promise.all(Array.from({ length: 250 }, () => store.consume(rule, "hot", 1)));
    expect(keysOfCalls).toEqual([1]);
    expect(verdicts.map(({ allowed }) => allowed)).toEqual(verdicts.map((_, i) => i < 100));
    expect(verdicts.map(({ remaining }) => remaining)).toEqual(verdicts.map((_, i) => Math.max(0, 99 - i)));
    for (const { allowed, retryAfterUs } of verdicts) expect(retryAfterUs > 0).toBe(!allowed);
  }
});

test("costs that do not fit do not stop smaller ones behind them, and the order is that of the calls", async () => {
  const costs = [60, 60, 60, 40, 1, 1];
  const verdicts = await Promise.all(costs.map((cost) => store.consume(bucket, "k", cost)));
  expect(verdicts.map(({ granted }) => granted)).toEqual([60, 0, 0, 40, 0, 0]);
});

test("different operations of one turn keep their order", async () => {
  const answers = await Promise.all([
    store.consume(bucket, "k", 1),
    store.peek(bucket, "k", 1),
    store.consume(bucket, "k", 1),
    store.consume(log, "k", 1),
    store.consumeAll([
      { rule: bucket, key: "k", cost: 1 },
      { rule: log, key: "k", cost: 1 },
    ]),
    store.reset(bucket, "k"),
    store.peek(bucket, "k", 1),
    store.peek(log, "k", 1),
  ]);
  expect(keysOfCalls.length).toBe(1);
  const remaining = answers
    .flat()
    .flatMap((answer) => (typeof answer === "object" ? [answer.remaining] : []));
  expect(remaining).toEqual([99, 99, 98, 99, 97, 98, 100, 98]);
});

test("one that is alone is sent in the same turn", async () => {
  const asked = store.consume(bucket, "k", 1);
  await null;
  expect(keysOfCalls).toEqual([1]);
  await asked;
});

test("one that is alone on a key to which something unusual has happened is answered all the same", async () => {
  const other: LimitRule = Object.freeze({ ...bucket, policy: log.policy });
  await store.consume(other, "converted", 30);
  expect((await store.consume(bucket, "converted", 1)).remaining).toBe(69);
  for (const rule of [bucket, log]) {
    await store.block(rule, "blocked", 60_000_000);
    keysOfCalls.length = 0;
    const { allowed, retryAfterUs } = await store.consume(rule, "blocked", 1);
    expect([allowed, retryAfterUs > 50_000_000, keysOfCalls.length]).toEqual([false, true, 2]);
  }
});

test("while one is under way, those of different callbacks of a turn go together", async () => {
  const first = store.consume(bucket, "k", 1);
  await null;
  const others = await new Promise<Promise<unknown>[]>((resolve) => {
    const asked: Promise<unknown>[] = [];
    for (let i = 0; i < 10; i++) {
      setImmediate(() => {
        asked.push(store.consume(bucket, `k${i}`, 1));
        if (asked.length === 10) resolve(asked);
      });
    }
  });
  await Promise.all([first, ...others]);
  expect(keysOfCalls).toEqual([1, 10]);
});

test("what was asked before closing is answered, and nothing after it", async () => {
  const asked = store.consume(bucket, "k", 1);
  const closed = store.close();
  await expect(store.consume(bucket, "k", 1)).rejects.toMatchObject({ code: "closed" });
  await closed;
  expect((await asked).allowed).toBe(true);
});

test("a client that answers something else fails the calls instead of hanging them", async () => {
  const strange = redis({ evalsha: async () => "OK", eval: async () => "OK" }, { prefix });
  await expect(strange.consume(bucket, "k", 1)).rejects.toMatchObject({ code: "store_unavailable" });
});

test("a client that answers numbers as text will do", async () => {
  const texts = {
    ...watched,
    evalsha: async (sha: string, keys: number, ...rest: string[]) =>
      ((await watched.evalsha(sha, keys, ...rest)) as number[]).map(String),
  };
  const { allowed, remaining } = await redis(texts, { prefix: `${prefix}:text` }).consume(bucket, "k", 1);
  expect([allowed, remaining]).toEqual([true, 99]);
});
