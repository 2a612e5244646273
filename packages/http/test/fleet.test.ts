/** Two servers behind one store: doors and adapters on Redis and on PostgreSQL. */
import { once } from "node:events";
import { createServer } from "node:http";
import fastifyRateLimit from "@fastify/rate-limit";
import { isSluiceError, type LimitStore, limit } from "@sluice/core";
import { postgres } from "@sluice/core/postgres";
import { redis } from "@sluice/core/redis";
import { type DoorLimits, type DoorOptions, shared } from "@sluice/http";
import { expressRateLimitStore, fastifyRateLimitStore, nestThrottlerStorage } from "@sluice/http/adapters";
import { rateLimit } from "@sluice/http/express";
import express from "express";
import { rateLimit as theirs } from "express-rate-limit";
import fastify from "fastify";
import { Redis } from "ioredis";
import pg from "pg";
import { afterAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { provideRedis, startRedis } from "../../../tools/servers/redis.ts";
import { freshDatabase } from "../../../tools/testing/database.ts";
import { type Served, served } from "./serve.ts";

const server = await provideRedis();
const client = server.url === undefined ? undefined : new Redis(server.url);
const database = freshDatabase("door");
const pool = new pg.Pool({ connectionString: database.url, max: 4 });
afterAll(async () => {
  client?.disconnect();
  await server.stop();
  await pool.end();
});

let run = 0;
const stores: Record<string, () => LimitStore> = {
  PostgreSQL: () => postgres(pool, { schema: database.schema }),
  Redis: () => redis(client!, { prefix: `door:${process.pid}` }),
};

/** Names of this test's own: the tests of a file share a store. */
const own = (name: string): string => `${name}-${run++}`;

async function door(limits: DoorLimits, options?: DoorOptions): Promise<Served> {
  const app = express();
  app.use(rateLimit(limits, options));
  app.get("/", (_request, response) => void response.send("ok"));
  return served(createServer(app));
}

function allowed(all: readonly { readonly status: number }[]): number {
  return all.filter(({ status }) => status === 200).length;
}

describe.each(Object.keys(stores))("on %s", (name) => {
  let store: LimitStore;
  beforeEach(({ skip }) => {
    if (name === "Redis" && client === undefined) skip(server.missing);
    store ??= stores[name]!();
  });
  afterAll(() => store?.close());

  test("two servers admit the limit together, and name every limit", async () => {
    const limits = [own("per-address"), own("everybody")];
    const make = () =>
      door([
        limit(limits[0]!, "30/60s", { store }),
        { limit: limit(limits[1]!, "20/60s", { store }), key: shared },
      ]);
    const servers = [await make(), await make()];
    const all = await Promise.all(Array.from({ length: 60 }, (_, i) => servers[i % 2]!.get()));
    expect(allowed(all)).toBe(20);
    const refused = all.find(({ status }) => status === 429)!;
    expect(JSON.parse(refused.text)["violated-policies"]).toEqual([limits[1]]);
    expect(refused.headers.get("ratelimit")).toContain(`"${limits[0]}";r=`);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(50);
  });

  test("express-rate-limit of two servers counts together, takes back and forgets", async () => {
    const prefix = own("erl");
    const make = () => {
      const app = express();
      const limiter = theirs({
        windowMs: 60_000,
        limit: 10,
        store: expressRateLimitStore(store, { prefix }),
      });
      app.use(limiter);
      app.get("/", (_request, response) => void response.send("ok"));
      return { app, limiter };
    };
    const [one, other] = [make(), make()];
    const servers = [await served(createServer(one.app)), await served(createServer(other.app))];
    const all = await Promise.all(Array.from({ length: 40 }, (_, i) => servers[i % 2]!.get()));
    expect(allowed(all)).toBe(10);
    expect((await one.limiter.getKey("127.0.0.1"))?.totalHits).toBe(40);
    await other.limiter.resetKey("127.0.0.1");
    expect((await servers[0]!.get()).headers.get("x-ratelimit-remaining")).toBe("9");
    const counted = expressRateLimitStore(store, { prefix });
    counted.init({ windowMs: 60_000 });
    await counted.decrement("127.0.0.1");
    expect(await counted.get("127.0.0.1")).toBeUndefined();
  });

  test("@fastify/rate-limit of two servers bans together", async () => {
    const prefix = own("frl");
    const make = async () => {
      const app = fastify();
      onTestFinished(() => app.close());
      await app.register(fastifyRateLimit, {
        max: 3,
        ban: 2,
        timeWindow: 60_000,
        continueExceeding: true,
        store: fastifyRateLimitStore(store, { prefix }),
      });
      app.get("/", async () => "ok");
      await app.listen({ port: 0, host: "127.0.0.1" });
      return served(app.server);
    };
    const servers = [await make(), await make()];
    const all: number[] = [];
    for (let i = 0; i < 8; i++) all.push((await servers[i % 2]!.get()).status);
    expect(all).toEqual([200, 200, 200, 429, 429, 403, 403, 403]);
  });

  test("nestThrottlerStorage lets no more through than its limit, of 400 at once", async () => {
    const storages = [1, 2].map(() => nestThrottlerStorage(store, { prefix: "nest" }));
    const key = own("key");
    const all = await Promise.all(
      Array.from({ length: 400 }, (_, i) => storages[i % 2]!.increment(key, 60_000, 5, 60_000, "default")),
    );
    expect(all.filter(({ isBlocked }) => !isBlocked)).toHaveLength(5);
    expect(await storages[0]!.increment(key, 60_000, 5, 60_000, "default")).toMatchObject({
      isBlocked: true,
      totalHits: 6,
    });
  });
});

test("a door whose Redis is killed passes, refuses or fails as it was told, and recovers", async (context) => {
  if (client === undefined) return context.skip(server.missing);
  const mortal = await startRedis();
  onTestFinished(() => mortal.stop());
  const connection = new Redis(mortal.url, { maxRetriesPerRequest: 0, enableOfflineQueue: false });
  connection.on("error", () => {});
  onTestFinished(() => connection.disconnect());
  const perAddress = limit("per-address", "100/60s", { store: redis(connection) });
  const errors: unknown[] = [];
  const onError = (error: unknown): void => void errors.push(error);
  const [open, closed] = [
    await door(perAddress, { onError }),
    await door(perAddress, { onError, storeFailure: "closed" }),
  ];
  await connection.ping().catch(() => once(connection, "ready"));
  expect((await open.get()).headers.get("ratelimit")).toMatch(/;r=99;/);
  const lost = once(connection, "close");
  await mortal.kill();
  await lost;
  expect([(await open.get()).status, (await closed.get()).status]).toEqual([200, 503]);
  expect(errors.every((error) => isSluiceError(error, "store_unavailable"))).toBe(true);
  const back = once(connection, "ready");
  await mortal.start();
  await back;
  expect((await closed.get()).headers.get("ratelimit")).toMatch(/;r=99;/);
});
