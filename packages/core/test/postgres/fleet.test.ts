import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { parseRate } from "@sluice/core";
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { startPostgres } from "../../../../tools/servers/postgres.ts";
import type { Order, Report } from "./fleet-process.ts";

const processes = 8;
const server = await startPostgres({ settings: { deadlock_timeout: "20ms", fsync: "off" } });
const client = new pg.Client({ connectionString: server.url });
await client.connect();
afterAll(async () => {
  await client.end();
  await server.stop();
});

async function run(order: Omit<Order, "url">): Promise<readonly Report[]> {
  const program = join(import.meta.dirname, "fleet-process.ts");
  const text = JSON.stringify({ url: server.url, ...order });
  const start = async (): Promise<Report> => {
    const args = ["--conditions=@sluice/source", program, text];
    const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 27 });
    return JSON.parse(stdout) as Report;
  };
  return Promise.all(Array.from({ length: processes }, start));
}

/** All admissions of a key in the order of the store's time. */
function admissions(reports: readonly Report[], key: string): [number, number][] {
  return reports
    .flatMap(({ admitted }) => admitted[key] ?? [])
    .map(([atUs, cost]): [number, number] => [atUs, cost])
    .sort(([a], [b]) => a - b);
}

/** The most that was admitted in any half-open window of one period. */
function mostInAnyWindow(log: readonly (readonly [number, number])[], periodUs: number): number {
  let [first, sum, most] = [0, 0, 0];
  for (const [atUs, cost] of log) {
    sum += cost;
    while (log[first]![0] <= atUs - periodUs) sum -= log[first++]![1];
    most = Math.max(most, sum);
  }
  return most;
}

function keysOf(reports: readonly Report[]): string[] {
  return [...new Set(reports.flatMap(({ admitted }) => Object.keys(admitted)))];
}

async function deadlocks(): Promise<number> {
  const { rows } = await client.query<{ deadlocks: string }>(
    "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
  );
  return Number(rows[0]!.deadlocks);
}

test.each([
  { algorithm: "sliding-window", rate: "500/s", bound: 500 },
  // In any window up to the burst and the rate (RL1b).
  { algorithm: "token-bucket", rate: "500/s", bound: 1000 },
  { algorithm: "fixed-window", rate: "500/s", bound: 1000 },
] as const)(
  "eight processes on one key, $algorithm: never over, and all of it used (RL1, RL2)",
  async ({ algorithm, rate, bound }) => {
    const schema = algorithm.replace("-", "_");
    const reports = await run({ schema, kind: "one-key", rate, algorithm, durationMs: 2500 });
    const log = admissions(reports, "hot");
    const { periodUs, limit } = parseRate(rate);
    expect(mostInAnyWindow(log, periodUs)).toBeLessThanOrEqual(bound);
    const total = log.reduce((sum, [, cost]) => sum + cost, 0);
    expect(total).toBeGreaterThan(limit * 2);
    expect(reports.flatMap(({ faults }) => faults)).toEqual([]);
    expect(await deadlocks()).toBe(0);
  },
);

test("eight processes draw on shuffled groups of keys: all or nothing, never over, no deadlock (RL4)", async () => {
  const order = { schema: "groups", kind: "groups", rate: "300/s", algorithm: "sliding-window" } as const;
  const reports = await run({ ...order, durationMs: 3500 });
  const keys = keysOf(reports);
  expect(keys).toHaveLength(12);
  for (const key of keys)
    expect(mostInAnyWindow(admissions(reports, key), 1_000_000)).toBeLessThanOrEqual(300);
  expect(reports.flatMap(({ faults }) => faults)).toEqual([]);
  expect(await deadlocks()).toBe(0);
});

test("eight processes hold and release slots: fences are given once, and none is lost", async () => {
  const order = { schema: "slots", kind: "slots", rate: "1/s", algorithm: "sliding-window" } as const;
  const reports = await run({ ...order, durationMs: 2000 });
  const fences = admissions(reports, "held").map(([fence]) => fence);
  expect(new Set(fences).size).toBe(fences.length);
  expect(fences.length).toBeGreaterThan(50);
  expect(reports.flatMap(({ faults }) => faults)).toEqual([]);
});

test("eight processes make the same new keys at the same time: none is debited twice or forgotten", async () => {
  const order = { schema: "churn", kind: "churn", rate: "5/h", algorithm: "fixed-window" } as const;
  const reports = await run({ ...order, durationMs: 2500 });
  const keys = keysOf(reports);
  expect(keys.length).toBeGreaterThan(100);
  for (const key of keys) expect(admissions(reports, key).length, key).toBeLessThanOrEqual(5);
  expect(reports.flatMap(({ faults }) => faults)).toEqual([]);
  expect(await deadlocks()).toBe(0);
});
