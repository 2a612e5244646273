import { type LimitRule, parseRate, ratePolicy } from "@sluice/core";
import { postgres } from "@sluice/core/postgres";
import { virtualClock } from "@sluice/core/testing";
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";

const { url, schema } = freshDatabase("prune");
const pool = new pg.Pool({ connectionString: url, max: 4 });
afterAll(() => pool.end());

const policy = ratePolicy(parseRate("5/60s"), { algorithm: "sliding-window" });
const rule: LimitRule = Object.freeze({ name: "prune", policy });
const clock = virtualClock();
const store = postgres(pool, { schema, nowUs: () => clock.nowUs() });
afterAll(() => store.close());

async function count(): Promise<number> {
  const { rows } = await pool.query<{ n: string }>(`SELECT count(*) AS n FROM ${schema}.limit_keys`);
  return Number(rows[0]!.n);
}

async function use(keys: readonly string[]): Promise<void> {
  await Promise.all(keys.map((key) => store.consume(rule, key, 1)));
}

test("ever new keys: the table stays within a few times those in use, and live ones keep what they used", async () => {
  const perRound = 1000;
  const live = Array.from({ length: 100 }, (_, i) => `live${i}`);
  let most = 0;
  await Promise.all(live.map((key) => store.consume(rule, key, 5)));
  for (let round = 0; round < 60; round++) {
    await use(Array.from({ length: perRound }, (_, i) => `round${round}-${i}`));
    clock.advance(30_000_000);
    // Of every two minutes one passes with these keys used up.
    const verdicts = await Promise.all(live.map((key) => store.consume(rule, key, 5)));
    const isFree = round % 2 === 1;
    expect(verdicts.every(({ allowed }) => allowed === isFree)).toBe(true);
    most = Math.max(most, await count());
    // Sixty rounds are half an hour; autovacuum comes every minute.
    if (round % 10 === 9) await pool.query(`VACUUM ${schema}.limit_keys`);
  }
  // In use are the keys of five rounds: the present one, two within the period, two within the minute's grace.
  expect(most).toBeLessThan(5 * perRound * 3);
});

test("a denied or forgotten key leaves no row", async () => {
  const before = await count();
  await store.consume(rule, "too much", 6);
  await store.reset(rule, "never seen");
  await store.settle(rule, "never seen", { atUs: clock.nowUs(), cost: 1 }, 0);
  await store.block(rule, "never seen", 0);
  await store.peek(rule, "never seen", 1);
  expect(await count()).toBe(before);
});

test("rows are changed in place and found by the index", async () => {
  const keys = Array.from({ length: 200 }, (_, i) => `hot${i}`);
  await use(keys);
  await pool.query("SELECT pg_stat_force_next_flush()");
  const before = await statistics();
  for (let i = 0; i < 4; i++) await use(keys);
  await Promise.all(keys.map((key) => store.peek(rule, key, 1)));
  const after = await statistics();
  const updated = after.updated - before.updated;
  expect(updated).toBe(800);
  expect(after.inPlace - before.inPlace).toBeGreaterThan(0.9 * updated);
  expect(after.scans - before.scans).toBe(0);
});

interface Statistics {
  readonly updated: number;
  readonly inPlace: number;
  readonly scans: number;
}

/** The counters arrive when a connection has been idle for a moment, or is asked to send them. */
async function statistics(): Promise<Statistics> {
  const clients = await Promise.all(Array.from({ length: 4 }, () => pool.connect()));
  for (const client of clients) {
    await client.query("SELECT pg_stat_force_next_flush()");
    await client.query("SELECT 1");
  }
  const { rows } = await clients[0]!.query<{ updated: string; in_place: string; scans: string }>(
    `SELECT n_tup_upd AS updated, n_tup_hot_upd AS in_place, seq_scan AS scans FROM pg_stat_user_tables
     WHERE schemaname = $1 AND relname = 'limit_keys'`,
    [schema],
  );
  for (const client of clients) client.release();
  const { updated, in_place, scans } = rows[0]!;
  return { updated: Number(updated), inPlace: Number(in_place), scans: Number(scans) };
}
