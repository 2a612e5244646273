import { type LimitRule, parseRate, ratePolicy } from "@sluice/core";
import { postgres } from "@sluice/core/postgres";
import pg from "pg";
import { afterAll, describe, expect, test } from "vitest";
import { startPostgres } from "../../../../tools/servers/postgres.ts";

const server = await startPostgres();
const pools: pg.Pool[] = [];
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end()));
  await server.stop();
});

function openPool(config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString: server.url, max: 4, ...config });
  pools.push(pool);
  return pool;
}

function rule(name: string, rate = "1000000/h"): LimitRule {
  const policy = ratePolicy(parseRate(rate), { algorithm: "fixed-window", align: "first-request" });
  return Object.freeze({ name, policy });
}

async function run(text: string): Promise<void> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(text);
  await client.end();
}

describe("a server that is killed", () => {
  test("what was acknowledged is still debited after -m immediate, and what is unknown at most", {
    timeout: 60_000,
  }, async () => {
    const limit = rule("crash");
    const store = postgres(openPool());
    const faults = new Set<string>();
    let [acknowledged, sent] = [0, 0];
    let isOver = false;
    const ask = async (): Promise<void> => {
      while (!isOver) {
        sent++;
        await store.consume(limit, "k", 1).then(
          ({ granted }) => {
            acknowledged += granted;
          },
          (error: { code: string }) => faults.add(error.code),
        );
        // Down, every call fails at once; the server has to get a turn to come up.
        if (faults.size > 0) await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const askers = Array.from({ length: 50 }, ask);
    await until(() => acknowledged > 2000);
    await server.stopImmediate();
    await until(() => faults.size > 0);
    isOver = true;
    await Promise.all(askers);
    await server.start();
    const { remaining } = await store.peek(limit, "k", 1);
    const debited = 1_000_000 - remaining;
    expect(debited).toBeGreaterThanOrEqual(acknowledged);
    expect(debited).toBeLessThanOrEqual(sent);
    expect([...faults]).toEqual(["store_unavailable"]);
    expect((await store.consume(limit, "k", 1)).remaining).toBe(remaining - 1);
  });

  test("budgets that may be lost are lost, and the store goes on", { timeout: 60_000 }, async () => {
    const store = postgres(openPool(), { schema: "unlogged", losesBudgetsOnCrash: true });
    const limit = rule("crash", "5/h");
    await store.consume(limit, "k", 5);
    await server.stopImmediate();
    await server.start();
    expect((await store.peek(limit, "k", 1)).remaining).toBe(5);
    await store.close();
  });
});

test("a statement that takes too long is store_timeout, one that cannot be sent store_unavailable", async () => {
  const store = postgres(openPool({ statement_timeout: 100 }));
  const limit = rule("slow", "5/h");
  await store.consume(limit, "k", 1);
  const blocker = new pg.Client({ connectionString: server.url });
  await blocker.connect();
  await blocker.query("BEGIN; LOCK TABLE sluice.limit_keys IN ACCESS EXCLUSIVE MODE");
  await expect(store.consume(limit, "k", 1)).rejects.toMatchObject({
    code: "store_timeout",
    family: "store",
    details: { sqlstate: "57014" },
  });
  await blocker.query("ROLLBACK");
  await blocker.end();
  expect((await store.consume(limit, "k", 1)).remaining).toBe(3);

  const nowhere = openPool({ connectionString: "postgres://postgres@127.0.0.1:1/x" });
  const error = await postgres(nowhere)
    .consume(limit, "k", 1)
    .catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "store_unavailable", family: "store", retryable: true });
});

test("a connection that is ended while idle or in use costs its calls, not the process", async () => {
  const store = postgres(openPool({ application_name: "ended" }));
  const limit = rule("ended", "100/h");
  await store.consume(limit, "k", 1);
  await run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended'");
  await until(async () => (await store.consume(limit, "k", 1).catch(() => undefined)) !== undefined);

  const blocker = new pg.Client({ connectionString: server.url });
  await blocker.connect();
  await blocker.query("BEGIN; LOCK TABLE sluice.limit_keys IN ACCESS EXCLUSIVE MODE");
  const waiting = store.consume(limit, "k", 1).catch((thrown: unknown) => thrown);
  await until(async () => {
    const { rowCount } = await blocker.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    );
    return rowCount === 1;
  });
  expect(await waiting).toMatchObject({ code: "store_unavailable", details: { sqlstate: "57P01" } });
  await blocker.query("ROLLBACK");
  await blocker.end();
  expect((await store.consume(limit, "k", 1)).allowed).toBe(true);
});

test("a read-only server is unavailable, and a peek still answers", async () => {
  const store = postgres(openPool({ options: "-c default_transaction_read_only=on" }));
  const limit = rule("read-only", "5/h");
  await postgres(openPool()).consume(limit, "k", 2);
  expect((await store.peek(limit, "k", 1)).remaining).toBe(3);
  await expect(store.consume(limit, "k", 1)).rejects.toMatchObject({
    code: "store_unavailable",
    details: { sqlstate: "25006" },
  });
});

test("under repeatable read, calls that collide are repeated and nothing is debited twice", async () => {
  const options = "-c default_transaction_isolation=repeatable\\ read";
  const stores = Array.from({ length: 3 }, () => postgres(openPool({ options, max: 1 })));
  const limit = rule("isolated", "30/h");
  const asked = stores.flatMap((store) => Array.from({ length: 5 }, () => store.consumeUpTo(limit, "k", 3)));
  const granted = (await Promise.all(asked)).map((verdict) => verdict.granted);
  expect(granted.reduce((sum, n) => sum + n, 0)).toBe(30);
});

test("closing waits for what was asked, leaves the pool open, and refuses what comes after", async () => {
  const pool = openPool();
  const before = pool.listenerCount("error");
  const store = postgres(pool);
  const limit = rule("closing", "5/h");
  const asked = store.consume(limit, "k", 1);
  const closed = store.close();
  expect((await asked).allowed).toBe(true);
  await closed;
  await expect(store.consume(limit, "k", 1)).rejects.toMatchObject({ code: "closed" });
  expect((await pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  expect(pool.listenerCount("error")).toBe(before);
});

test("without prepared statements it works as well, as behind a pooler", async () => {
  const store = postgres(openPool(), { prepared: false });
  expect((await store.consume(rule("plain", "5/h"), "k", 2)).remaining).toBe(3);
});

/** Asks until the answer is yes; each ask gives way to what it waits for. */
async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setImmediate(resolve));
}
