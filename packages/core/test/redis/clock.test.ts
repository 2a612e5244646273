/** A server whose wall clock is set forward and back under it (RL7): nothing is refunded, and nobody waits for long. */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { concurrencyPolicy, type Policy, parseRate, type RatePolicyOptions, ratePolicy } from "@sluice/core";
import { type RedisStore, redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type RedisServer, startRedis } from "../../../../tools/servers/redis.ts";
import { requireRedis } from "../../../../tools/testing/redis.ts";
import type { LimitRule } from "../../src/limit/store.ts";

requireRedis();

const source = fileURLToPath(new URL("clock-shim.c", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "clock-shim-"));
const shim = join(folder, "clock-shim.so");
const compiled = spawnSync("cc", ["-shared", "-fPIC", "-O1", "-o", shim, source], { encoding: "utf8" });
const offsetFile = openSync(join(folder, "offset"), "w+");
const second = 1_000_000;

/** Sets the server's clock to so many microseconds beside the machine's. */
function setOffset(us: number): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(us));
  writeSync(offsetFile, bytes, 0, 8, 0);
}

let server: RedisServer;
let client: Redis;
let store: RedisStore;

beforeEach(({ skip }) => {
  if (process.platform !== "linux") skip("the clock of a process is moved by LD_PRELOAD, which is Linux's");
  if (compiled.status !== 0) skip(`no C compiler: ${compiled.error?.message ?? compiled.stderr}`);
});

beforeAll(async () => {
  setOffset(0);
  if (compiled.status !== 0 || process.platform !== "linux") return;
  const environment = { LD_PRELOAD: shim, CLOCK_SHIM_FILE: join(folder, "offset") };
  server = await startRedis({ environment });
  client = new Redis(server.port);
  store = redis(client);
});
afterAll(async () => {
  client?.disconnect();
  await server?.stop();
  closeSync(offsetFile);
  rmSync(folder, { recursive: true });
});

const ruleOf = (name: string, policy: Policy): LimitRule => Object.freeze({ name, policy });
const rateOf = (options: RatePolicyOptions): LimitRule =>
  ruleOf(options.algorithm, ratePolicy(parseRate("10/60s"), options));
const rules = [
  rateOf({ algorithm: "token-bucket" }),
  rateOf({ algorithm: "sliding-window" }),
  rateOf({ algorithm: "fixed-window", align: "first-request" }),
];

test("the shim moves the server's clock, both ways", async () => {
  const readUs = async (): Promise<number> => {
    const [seconds, us] = await client.time();
    return Number(seconds) * second + Number(us);
  };
  const before = await readUs();
  setOffset(1000 * second);
  expect((await readUs()) - before).toBeGreaterThan(999 * second);
  setOffset(-1000 * second);
  expect((await readUs()) - before).toBeLessThan(-900 * second);
  setOffset(0);
});

describe.each(rules)("a clock that is set, with a limit of 10/60s kept by $name", (rule) => {
  let key = 0;
  beforeEach(async () => {
    setOffset(0);
    key++;
    for (let i = 0; i < 10; i++) expect((await store.consume(rule, `k${key}`, 1)).allowed).toBe(true);
  });

  test.each([-1, -30, -59])("back by %i s, less than a period: nothing is refunded", async (s) => {
    setOffset(s * second);
    const { allowed, retryAfterUs } = await store.consume(rule, `k${key}`, 1);
    expect(allowed).toBe(false);
    expect(retryAfterUs).toBeLessThanOrEqual((60 - s) * second);
  });

  test.each([-61, -240, -86_400, -10 * 365 * 86_400])(
    "back by %i s, more than a period: nothing is refunded, and nobody waits longer than a period",
    async (s) => {
      setOffset(s * second);
      const denied = await store.consume(rule, `k${key}`, 1);
      expect(denied.allowed).toBe(false);
      expect(denied.retryAfterUs).toBeLessThanOrEqual(60 * second);
      // It is on that clock for good: the wait ends when it said.
      setOffset(s * second + denied.retryAfterUs + second);
      expect((await store.consume(rule, `k${key}`, 1)).allowed).toBe(true);
    },
  );

  test("forward by 120 s: one more capacity, as after 120 s, and not another one when it is set right", async () => {
    setOffset(120 * second);
    for (let i = 0; i < 10; i++) expect((await store.consume(rule, `k${key}`, 1)).allowed).toBe(true);
    expect((await store.consume(rule, `k${key}`, 1)).allowed).toBe(false);
    setOffset(0);
    const { allowed, retryAfterUs } = await store.consume(rule, `k${key}`, 1);
    expect(allowed).toBe(false);
    expect(retryAfterUs).toBeLessThanOrEqual(120 * second);
  });
});

test("leases and blocks outlive a clock that is set back, by no more than their own length", async () => {
  setOffset(0);
  const slots = ruleOf("slots", concurrencyPolicy(1, 30 * second));
  const { fence } = await store.consume(slots, "k", 1);
  await store.block(rules[0]!, "blocked", 30 * second);
  setOffset(-3600 * second);
  for (const [rule, key] of [
    [slots, "k"],
    [rules[0]!, "blocked"],
  ] as const) {
    const { allowed, retryAfterUs } = await store.consume(rule, key, 1);
    expect(allowed).toBe(false);
    expect(retryAfterUs).toBeLessThanOrEqual(30 * second);
  }
  expect(await store.release(slots, "k", fence)).toBe(true);
  // Fences rise although the clock does not.
  expect((await store.consume(slots, "k", 1)).fence).toBeGreaterThan(fence);
  setOffset(0);
});
