/** What the store makes of a server that fails, in each of the ways in which servers do. */
import { concurrencyPolicy, isSluiceError, parseRate, ratePolicy, type SluiceError } from "@sluice/core";
import { type RedisStore, redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { expect, onTestFinished, test } from "vitest";
import { type RedisServer, startRedis } from "../../../../tools/servers/redis.ts";
import { until } from "../../../../tools/servers/redis-topologies.ts";
import { requireRedis } from "../../../../tools/testing/redis.ts";
import type { LimitRule } from "../../src/limit/store.ts";

requireRedis();

const bucket: LimitRule = Object.freeze({
  name: "bucket",
  policy: ratePolicy(parseRate("100/h"), { algorithm: "token-bucket" }),
});

async function setUp(
  options: { readonly commandTimeout?: number } = {},
): Promise<{ server: RedisServer; client: Redis; store: RedisStore }> {
  const server = await startRedis();
  const client = new Redis({
    port: server.port,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: 1_000,
    retryStrategy: () => 20,
    ...options,
  });
  client.on("error", () => {});
  onTestFinished(async () => {
    client.disconnect();
    await server.stop();
  });
  const store = redis(client);
  await store.consume(bucket, "k", 1);
  return { server, client, store };
}

/** What a call fails with. */
async function failureOf(call: Promise<unknown>): Promise<SluiceError> {
  const outcome = await call.then(
    () => "it succeeded",
    (error: unknown) => error,
  );
  if (!isSluiceError(outcome)) throw new Error(`expected a SluiceError, got ${String(outcome)}`);
  return outcome;
}

test("SCRIPT FLUSH between and during calls loses nothing", async () => {
  const { client, store } = await setUp();
  await client.script("FLUSH");
  expect((await store.consume(bucket, "k", 1)).remaining).toBe(98);
  const asked: Promise<{ remaining: number }>[] = [];
  for (let i = 0; i < 50; i++) {
    asked.push(store.consume(bucket, `other${i}`, 1));
    if (i % 10 === 0) void client.script("FLUSH");
    await null;
  }
  expect((await Promise.all(asked)).every(({ remaining }) => remaining === 99)).toBe(true);
  expect((await store.peek(bucket, "k", 1)).remaining).toBe(98);
});

test("a check that two scripts have to look at is answered by a server that knows neither", async () => {
  const { client, store } = await setUp();
  await store.block(bucket, "k", 60_000_000);
  await client.script("FLUSH");
  const { allowed, retryAfterUs } = await store.consume(bucket, "k", 1);
  expect([allowed, retryAfterUs > 50_000_000]).toEqual([false, true]);
});

test("SCRIPT FLUSH is nothing to node-redis either", async () => {
  const { server } = await setUp();
  const client = createClient({ url: server.url });
  await client.connect();
  onTestFinished(() => client.close());
  const store = redis(client);
  await client.scriptFlush();
  expect((await store.consume(bucket, "k", 1)).remaining).toBe(98);
});

test("a server that comes back empty is used again, and fences rise above those it knew", async () => {
  const { server, store } = await setUp();
  const slots: LimitRule = Object.freeze({ name: "slots", policy: concurrencyPolicy(2, 60_000_000) });
  const before = await store.consume(slots, "k", 1);
  await server.kill();
  const error = await failureOf(store.consume(bucket, "k", 1));
  expect(error.code).toBe("store_unavailable");
  await server.start();
  await until("the client is connected again", () =>
    store.peek(bucket, "k", 1).then(
      () => true,
      () => false,
    ),
  );
  expect((await store.consume(bucket, "k", 1)).remaining).toBe(99);
  expect((await store.consume(slots, "k", 1)).fence).toBeGreaterThan(before.fence);
  expect(await store.release(slots, "k", before.fence)).toBe(false);
});

test("a server that stands still: the call fails as a timeout, says that it may have run, and ran once", async () => {
  const { server, store } = await setUp({ commandTimeout: 150 });
  server.pause();
  const error = await failureOf(store.consume(bucket, "k", 5));
  expect([error.code, error.details["mayHaveRun"]]).toEqual(["store_timeout", true]);
  server.resume();
  await until("the server answers", () =>
    store.peek(bucket, "k", 1).then(
      () => true,
      () => false,
    ),
  );
  // The command was in the server's socket: it has run after all, and nobody has sent it again.
  expect((await store.peek(bucket, "k", 1)).remaining).toBe(94);
});

test("a primary that became a replica refuses, and nothing was debited", async () => {
  const { client, store } = await setUp();
  await client.replicaof("127.0.0.1", 1);
  const error = await failureOf(store.consume(bucket, "k", 1));
  expect([error.code, error.details]).toEqual([
    "store_unavailable",
    { mayHaveRun: false, refusal: "READONLY" },
  ]);
  await client.replicaof("NO", "ONE");
  expect((await store.peek(bucket, "k", 1)).remaining).toBe(99);
});

test("a server without memory refuses, a whole group or nothing", async () => {
  const { client, store } = await setUp();
  await client.config("SET", "maxmemory-policy", "noeviction");
  await client.config("SET", "maxmemory", "1");
  const group = ["a", "b"].map((key) => ({ rule: bucket, key, cost: 1 }));
  for (const call of [store.consume(bucket, "k", 1), store.consumeAll(group)]) {
    const error = await failureOf(call);
    expect([error.code, error.details["refusal"]]).toEqual(["store_unavailable", "OOM"]);
  }
  await client.config("SET", "maxmemory", "0");
  expect((await store.peek(bucket, "a", 1)).remaining).toBe(100);
  expect((await store.peek(bucket, "k", 1)).remaining).toBe(99);
});

test("a server busy with somebody's script refuses", async () => {
  const { server, client, store } = await setUp();
  await client.config("SET", "busy-reply-threshold", "10");
  const other = new Redis(server.port);
  const stuck = other.eval("while true do end", 0).catch(() => {});
  await until("it is stuck", () =>
    client.ping().then(
      () => false,
      (error: Error) => error.message.startsWith("BUSY"),
    ),
  );
  const error = await failureOf(store.consume(bucket, "k", 1));
  expect([error.code, error.details]).toEqual(["store_unavailable", { mayHaveRun: false, refusal: "BUSY" }]);
  await client.script("KILL");
  await stuck;
  other.disconnect();
  expect((await store.consume(bucket, "k", 1)).remaining).toBe(98);
});

test("a server that wants a password refuses", async () => {
  const { server, client } = await setUp();
  await client.config("SET", "requirepass", "secret");
  const stranger = new Redis(server.port, { maxRetriesPerRequest: 0 });
  stranger.on("error", () => {});
  onTestFinished(() => stranger.disconnect());
  const error = await failureOf(redis(stranger).consume(bucket, "k", 1));
  expect(error).toMatchObject({ code: "store_unavailable", details: { refusal: "NOAUTH" } });
});

test("a client that was closed fails every call, of node-redis too", async () => {
  const { server, client, store } = await setUp();
  const other = createClient({ url: server.url });
  await other.connect();
  const second = redis(other);
  await second.peek(bucket, "k", 1);
  client.disconnect();
  await other.close();
  for (const each of [store, second]) {
    const calls = [each.consume(bucket, "k", 1), each.peek(bucket, "k", 1), each.reset(bucket, "k")];
    for (const call of calls) expect((await failureOf(call)).code).toBe("store_unavailable");
  }
});
