import pg from "pg";
import { afterAll, afterEach, expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { type Sluice, sluice } from "../../src/index.ts";
import { until } from "../gate.ts";
import { invariants, type Sql } from "../invariants.ts";

const { url, schema } = freshDatabase("load");
const pool = new pg.Pool({ connectionString: url, max: 2 });
const sql: Sql = async (text) => (await pool.query<Record<string, unknown>>(text)).rows;
const apps: Sluice[] = [];
const errors: unknown[] = [];

async function open(): Promise<Sluice> {
  const app = await sluice({ database: url, schema });
  app.on("error", ({ error }) => errors.push(error));
  apps.push(app);
  return app;
}

afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  expect(errors.splice(0)).toEqual([]);
  expect(await invariants(sql, schema)).toEqual([]);
});
afterAll(() => pool.end());

test("twenty thousand tasks of one partition that fall due together are done, by a worker with a short lease", async () => {
  const app = await open();
  let done = 0;
  app.task("t", () => void done++);
  const queue = app.queue("due");
  const runAt = new Date(Date.now() + 2500);
  for (let bulk = 0; bulk < 2; bulk++) {
    await queue.enqueueMany(Array.from({ length: 10_000 }, () => ({ task: "t", partition: "p", runAt })));
  }
  await app.work({ queues: [queue], leaseMs: 1000 });
  await until("all are done", () => done === 20_000, 30_000);
});

test("many workers and clients at once: each task runs once, and the counts add up", async () => {
  const app = await open();
  const runs = new Map<string, number>();
  app.task("t", (_, { id }) => void runs.set(id, (runs.get(id) ?? 0) + 1));
  const queue = app.queue("many", { partition: { concurrency: 3 } });
  await Promise.all(Array.from({ length: 4 }, () => app.work({ queues: [queue], concurrency: 25 })));
  const client = async (name: number): Promise<string[]> => {
    const ids: string[] = [];
    for (let i = 0; i < 10; i++) {
      const items = Array.from({ length: 50 }, (_, n) => ({ task: "t", partition: `p${(n + name) % 17}` }));
      ids.push(...(await queue.enqueueMany(items)).map(({ id }) => id));
      ids.push((await queue.enqueue("t", i, { partition: `p${i}` })).id);
    }
    return ids;
  };
  const ids = (await Promise.all(Array.from({ length: 6 }, (_, name) => client(name)))).flat();
  await until("all are done", () => runs.size === ids.length, 20_000);
  await Promise.all(ids.slice(-20).map((id) => app.result(id, { timeoutMs: 5000 })));
  expect([...runs.values()].every((count) => count === 1)).toBe(true);
  await until("all ends are recorded", async () => (await queue.stats()).running === 0);
  expect(await queue.stats()).toEqual({
    waiting: 0,
    running: 0,
    scheduled: 0,
    succeeded: ids.length,
    dead: 0,
    cancelled: 0,
  });
});

test("ten thousand partitions with one task each are served, in turn with one that has many", async () => {
  const app = await open();
  const order: string[] = [];
  app.task("t", (_, { partition }) => void order.push(partition));
  const queue = app.queue("wide", { partition: { concurrency: 1 } });
  await queue.enqueueMany(Array.from({ length: 500 }, () => ({ task: "t", partition: "heavy" })));
  await queue.enqueueMany(Array.from({ length: 9_000 }, (_, i) => ({ task: "t", partition: `light ${i}` })));
  await app.work({ queues: [queue] });
  await until("all are done", () => order.length === 9_500, 30_000);
  expect(new Set(order).size).toBe(9_001);
});
