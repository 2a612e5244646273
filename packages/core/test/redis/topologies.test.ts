/** Sentinels that fail over, and a cluster whose slots move: the same answers, and never one admission too many. */
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { concurrencyPolicy, parseRate, ratePolicy } from "@sluice/core";
import { type RedisStore, redis } from "@sluice/core/redis";
import { type Cluster, Redis } from "ioredis";
import { createCluster } from "redis";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import {
  type RedisCluster,
  startRedisCluster,
  startReplicated,
  until,
} from "../../../../tools/servers/redis-topologies.ts";
import { requireRedis } from "../../../../tools/testing/redis.ts";
import type { LimitRule } from "../../src/limit/store.ts";
import { keyName } from "../../src/stores/redis/key-names.ts";
import { slotOf } from "../../src/stores/redis/slot.ts";
import { groupOf } from "./contended-limits.ts";

requireRedis();

const program = fileURLToPath(new URL("admit-process.ts", import.meta.url));
const rule = (name: string, rate = "100/h"): LimitRule =>
  Object.freeze({ name, policy: ratePolicy(parseRate(rate), { algorithm: "token-bucket" }) });
const bucket = rule("bucket");

test("behind Sentinels: after a failover the replica goes on with what it had been told (RL12)", async () => {
  const servers = await startReplicated();
  const client = new Redis({
    sentinels: [...servers.sentinels],
    name: servers.name,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 50,
    sentinelRetryStrategy: () => 50,
  });
  client.on("error", () => {});
  onTestFinished(async () => {
    client.disconnect();
    await servers.stop();
  });
  const store = redis(client);
  await until("the client has found the primary", () => works(store));
  for (let i = 0; i < 40; i++) await store.consume(bucket, "k", 1);
  // Waited for, so that the lag is none and the count is exact.
  await client.wait(1, 5_000);
  await servers.primary.kill();
  await until("the replica was put in its place", async () => {
    const { allowed } = await store.consume(bucket, "probe", 1).catch(() => ({ allowed: false }));
    return allowed;
  });
  expect((await store.consume(bucket, "k", 1)).remaining).toBe(59);
});

function works(store: RedisStore): Promise<boolean> {
  return store.peek(bucket, "k", 1).then(
    () => true,
    () => false,
  );
}

describe("on a cluster of six", () => {
  let cluster: RedisCluster;
  let client: Cluster;
  let admin: Redis[];
  let store: RedisStore;

  beforeAll(async () => {
    cluster = await startRedisCluster();
    client = new Redis.Cluster([...cluster.addresses], { slotsRefreshTimeout: 5_000 });
    client.on("error", () => {});
    admin = cluster.nodes.map(({ port }) => new Redis(port));
    store = redis(client);
    await until("the client knows the cluster", () => works(store));
  });
  afterAll(async () => {
    for (const each of [client, ...(admin ?? [])]) each?.disconnect();
    await cluster?.stop();
  });

  test("keys of all slots are asked in one turn, and each is kept where it belongs", async () => {
    const keys = Array.from({ length: 200 }, (_, i) => `user:${i}`);
    for (let round = 1; round <= 3; round++) {
      const verdicts = await Promise.all(keys.map((key) => store.consume(bucket, key, 1)));
      expect(new Set(verdicts.map(({ remaining }) => remaining))).toEqual(new Set([100 - round]));
    }
    const sizes = await Promise.all(admin.slice(0, 3).map((node) => node.dbsize()));
    expect(Math.min(...sizes)).toBeGreaterThan(30);
  });

  test("our slots are the server's", async () => {
    for (const key of ["sluice:{user:1}", "sluice:{%=global}", "{}x", "a{b}{c}"]) {
      expect(await admin[0]!.cluster("KEYSLOT", key)).toBe(slotOf(key));
    }
  });

  test("through node-redis, and through a client that knows only one node", async () => {
    const other = createCluster({
      rootNodes: cluster.addresses.map(({ host, port }) => ({ url: `redis://${host}:${port}` })),
    });
    await other.connect();
    onTestFinished(() => other.close());
    const draws = groupOf("node-redis");
    const verdicts = await redis(other).consumeAll(draws);
    expect(verdicts.map(({ granted }) => granted)).toEqual([1, 1, 1]);

    const local = redis(admin[0]!, { prefix: "one-node" });
    const owned = Array.from({ length: 100 }, (_, i) => `k${i}`).filter(
      (key) => slotOf(keyName("one-node", "bucket", key)) < 5_000,
    );
    // The first call finds out, by a refusal, that the keys of one call must lie in one slot.
    const asked = await Promise.all(owned.map((key) => local.consume(bucket, key, 1)));
    expect(asked.every(({ remaining }) => remaining === 99)).toBe(true);
    const group = owned.slice(0, 3).map((key) => ({ rule: bucket, key, cost: 1 }));
    const fresh = redis(admin[0]!, { prefix: "one-node" });
    expect((await fresh.consumeAll(group)).map(({ remaining }) => remaining)).toEqual([98, 98, 98]);
  });

  test("limits in several slots: all or nothing, each refusal named with its own time, and nothing left behind", async () => {
    const slots: LimitRule = Object.freeze({ name: "slots", policy: concurrencyPolicy(1, 60_000_000) });
    const draws = [...groupOf("acme"), { rule: slots, key: "elsewhere", cost: 1 }];
    const first = await store.consumeAll(draws);
    expect(first.map(({ granted }) => granted)).toEqual([1, 1, 1, 1]);
    const second = await store.consumeAll(draws);
    expect(second.map(({ allowed, granted }) => [allowed, granted])).toEqual([
      [true, 0],
      [true, 0],
      [true, 0],
      [false, 0],
    ]);
    expect(second[3]!.retryAfterUs).toBeGreaterThan(50_000_000);
    const seen = await Promise.all(draws.map((draw) => store.peek(draw.rule, draw.key, 1)));
    expect(seen.map(({ remaining }) => remaining)).toEqual(first.map(({ remaining }) => remaining));
    expect(await store.release(slots, "elsewhere", first[3]!.fence)).toBe(true);
    expect((await store.consumeAll(draws)).every(({ granted }) => granted === 1)).toBe(true);
  });

  test("limits in several slots, asked by many at once: exactly the scarcest is admitted, of every one the same", async () => {
    const draws = [
      { rule: rule("wide", "90/h"), key: "many-a", cost: 1 },
      { rule: rule("narrow", "30/h"), key: "many-b", cost: 1 },
    ];
    const asked = await Promise.all(Array.from({ length: 100 }, () => store.consumeAll(draws)));
    const admitted = asked.filter((verdicts) => verdicts.every(({ granted }) => granted === 1)).length;
    expect(asked.every(([a, b]) => a!.granted === b!.granted)).toBe(true);
    const left = await Promise.all(draws.map((draw) => store.peek(draw.rule, draw.key, 1)));
    // What was reserved and cancelled came back, but for what a bucket cannot tell from its refill: a token at the most.
    expect(admitted).toBe(30);
    expect(left[1]!.remaining).toBe(0);
    expect(60 - left[0]!.remaining).toBeLessThanOrEqual(1);
  });

  test("processes killed between reserve and commit leave budget unused, never overdrawn", async () => {
    const node = cluster.nodes[0]!;
    let admitted = 0;
    for (let i = 0; i < 12; i++) {
      const args = ["--conditions=@sluice/source", program, node.url, "killed", "groups", "20000"];
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      // At its tenth answer, when the next reservation is on its way.
      let told = "";
      child.stdout.on("data", (chunk: Buffer) => {
        told += chunk.toString();
        if (told.length > 10 + i) child.kill("SIGKILL");
      });
      await new Promise((resolve) => child.once("close", resolve));
      expect(told).not.toContain("!");
      admitted += told.split("+").length - 1;
    }
    const own = redis(client, { prefix: "killed" });
    const left = await Promise.all(groupOf("s").map((draw) => own.peek(draw.rule, draw.key, 1)));
    const used = groupOf("s").map(({ rule: { policy } }, i) => policy.capacity - left[i]!.remaining);
    // Every admission that was told was debited everywhere; what more was debited is at most two calls a killed process:
    // one reserved, and one whose answer was on its way.
    for (const each of used) {
      expect(each).toBeGreaterThanOrEqual(admitted - 1);
      expect(each).toBeLessThanOrEqual(admitted + 2 * 12);
    }
    expect(admitted).toBeGreaterThan(100);
  });

  test("a process that dies with the first of three reservations made leaves that one debited, once, and nothing else", async () => {
    const args = ["--conditions=@sluice/source", program, cluster.nodes[0]!.url, "torn", "torn", "5000"];
    const child = spawn(process.execPath, args, { stdio: "ignore" });
    const signal = await new Promise((resolve) => child.once("close", (_, by) => resolve(by)));
    expect(signal).toBe("SIGKILL");
    const own = redis(client, { prefix: "torn" });
    const left = await Promise.all(groupOf("s").map((draw) => own.peek(draw.rule, draw.key, 1)));
    const used = groupOf("s").map(({ rule: { policy } }, i) => policy.capacity - left[i]!.remaining);
    expect(used.toSorted()).toEqual([0, 0, 1]);
  });

  test("while a slot moves to another node, calls go on and every debit is counted", async () => {
    const prefix = "moving";
    const args = ["--conditions=@sluice/source", program, cluster.nodes[0]!.url, prefix, "shared", "6000"];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const told = text(child.stdout);
    const keys = Array.from({ length: 5 }, (_, i) => keyName(prefix, "shared", `k${i}`));
    const own = redis(client, { prefix });
    const shared = rule("shared", "1000000/h");
    await until(
      "the process is at work",
      async () => (await own.peek(shared, "k0", 1)).remaining < 1_000_000 - 50,
    );
    let moves = 0;
    while (child.exitCode === null && moves < 6) {
      await moveSlot(slotOf(keys[moves % keys.length]!), admin);
      moves++;
    }
    const { granted, failures } = JSON.parse(await told) as { granted: number; failures: string[] };
    expect(moves).toBeGreaterThan(2);
    const left = await Promise.all(keys.map((_, i) => own.peek(shared, `k${i}`, 1)));
    const used = left.reduce((sum, { remaining }) => sum + 1_000_000 - remaining, 0);
    // In the seconds it ran some of it has refilled: 278 a second and key at the most.
    expect(used).toBeLessThanOrEqual(granted + failures.length);
    expect(failures).toEqual([]);
    expect(granted).toBeGreaterThan(200);
  });
});

/** Moves a slot with all its keys from the primary that has it to the next one, as a resharding does. */
async function moveSlot(slot: number, nodes: readonly Redis[]): Promise<void> {
  const primaries = nodes.slice(0, 3);
  const ids = await Promise.all(primaries.map(async (node) => String(await node.cluster("MYID"))));
  const owned = await Promise.all(
    primaries.map(async (node) => {
      const ranges = (await node.cluster("SLOTS")) as unknown as [number, number, [string, number, string]][];
      return ranges.find(([from, to]) => from <= slot && slot <= to)![2][2];
    }),
  );
  const from = ids.indexOf(owned[0]!);
  const to = (from + 1) % primaries.length;
  await primaries[to]!.cluster("SETSLOT", slot, "IMPORTING", ids[from]!);
  await primaries[from]!.cluster("SETSLOT", slot, "MIGRATING", ids[to]!);
  const keys = (await primaries[from]!.cluster("GETKEYSINSLOT", slot, 100)) as string[];
  const port = primaries[to]!.options.port!;
  for (const key of keys) await primaries[from]!.call("MIGRATE", "127.0.0.1", port, key, 0, 5_000);
  for (const i of [to, from]) await primaries[i]!.cluster("SETSLOT", slot, "NODE", ids[to]!);
  const others = primaries.filter((_, i) => i !== from && i !== to);
  for (const node of others) await node.cluster("SETSLOT", slot, "NODE", ids[to]!);
}
