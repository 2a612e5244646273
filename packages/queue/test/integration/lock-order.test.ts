import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { startPostgres } from "../../../../tools/servers/postgres.ts";
import { type EnqueueItem, type Queue, type Sluice, sluice } from "../../src/index.ts";
import { pause } from "../gate.ts";
import { invariants } from "../invariants.ts";

const server = await startPostgres({ settings: { deadlock_timeout: "20ms", fsync: "off" } });
afterAll(() => server.stop());

const durationMs = 4000;
const options = { maxAttempts: 2, backoff: { minMs: 1, maxMs: 5 } };
const partitions = Array.from({ length: 12 }, (_, i) => `p${i}`);

/** Does something again and again until the time is over; counts what gave way to a concurrent call. */
async function keepDoing(untilMs: number, work: () => Promise<unknown>, conflicts: unknown[]): Promise<void> {
  while (performance.now() < untilMs) {
    await work().catch((error: { code?: unknown }) => {
      if (error.code !== "store_conflict") throw error;
      conflicts.push(error);
    });
  }
}

function pick<Item>(items: readonly Item[]): Item {
  return items[Math.floor(Math.random() * items.length)]!;
}

function shuffled<Item>(items: readonly Item[]): Item[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

test("enqueues, workers, cancels, retries, rescuers and declarations at once never deadlock", async () => {
  const app = await sluice({ database: server.url });
  const errors: unknown[] = [];
  app.on("error", ({ error }) => errors.push(error));
  const queues = [
    app.queue("plain", options),
    app.queue("narrow", { ...options, concurrency: 5, partition: { concurrency: 1 } }),
    app.queue("paced", {
      ...options,
      rate: "2000/1s",
      burst: 50,
      partition: { concurrency: 2, rate: "500/1s" },
    }),
  ];
  let ran = 0;
  app.task("t", async (input: number, ctx) => {
    ran++;
    if (input % 7 === 0) await ctx.step("s", () => 1);
    if (input % 11 === 0) await ctx.progress(ran);
    if (input % 5 === 0) throw new Error("some fail");
  });
  const conflicts: unknown[] = [];
  await storm(app, queues, conflicts);
  await app.close();
  const look = new pg.Client(server.url);
  await look.connect();
  const { rows } = await look.query<{ deadlocks: string }>(
    "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
  );
  expect(Number(rows[0]!.deadlocks)).toBe(0);
  expect(conflicts).toEqual([]);
  expect(errors).toEqual([]);
  expect(ran).toBeGreaterThan(100);
  expect(
    await invariants(async (text) => (await look.query<Record<string, unknown>>(text)).rows, "sluice"),
  ).toEqual([]);
  await look.end();
});

/** Tasks for all partitions in any order, some delayed, some with keys that come again. */
function randomItems(): EnqueueItem[] {
  return shuffled([...partitions, ...partitions]).map((partition, i) => ({
    task: "t",
    input: Math.floor(Math.random() * 1000),
    partition,
    ...(i % 6 === 0 ? { delayMs: 5 } : {}),
    ...(i % 5 === 0
      ? { idempotencyKey: `k${Math.floor(Math.random() * 1e6)}`, idempotencyKeepMs: 1000 }
      : {}),
  }));
}

async function enqueueSome(queue: Queue): Promise<string[]> {
  const handles = await queue.enqueueMany(randomItems()).catch((error: { code?: unknown }) => {
    if (error.code === "idempotency_conflict") return [];
    throw error;
  });
  return handles.map(({ id }) => id);
}

/** All queues in one transaction of the caller's own, in any order. */
async function transact(client: pg.Client, queues: readonly Queue[]): Promise<void> {
  await client.query("BEGIN");
  for (const queue of shuffled(queues)) {
    const items = shuffled(partitions).map((partition) => ({ task: "t", input: 1, partition }));
    await queue.enqueueMany(items, { client });
  }
  await client.query("COMMIT");
}

/** A worker that comes and soon goes, leaving behind what it runs. */
async function workAWhile(app: Sluice): Promise<void> {
  const started = await app.work({ concurrency: 20, leaseMs: 1000, pollMs: 50, drainMs: 0 });
  await pause(100 + 300 * Math.random());
  await started.stop();
}

async function redeclare(): Promise<void> {
  const other = await sluice({ database: server.url });
  const partition = { concurrency: 1 + Math.floor(Math.random() * 3) };
  await other.queue("narrow", { ...options, concurrency: 5, partition }).stats();
  await other.close();
}

async function storm(app: Sluice, queues: readonly Queue[], conflicts: unknown[]): Promise<void> {
  const end = performance.now() + durationMs;
  const ids: string[] = [];
  const bulk = async (): Promise<void> => {
    ids.push(...(await enqueueSome(pick(queues))));
    if (ids.length > 3000) ids.splice(0, 1500);
  };
  const cancelOrRetry = async (): Promise<unknown> => {
    if (ids.length === 0) return pause(1);
    return Math.random() < 0.5 ? app.cancel(pick(ids)) : app.retry(pick(ids));
  };
  const single = (): Promise<unknown> => pick(queues).enqueue("t", 1, { partition: pick(partitions) });
  const client = new pg.Client(server.url);
  await client.connect();
  const transaction = (): Promise<void> => transact(client, queues);
  const worker = (): Promise<void> => workAWhile(app);
  const doers = [
    bulk,
    bulk,
    bulk,
    transaction,
    single,
    worker,
    worker,
    worker,
    redeclare,
    cancelOrRetry,
    cancelOrRetry,
  ];
  try {
    await Promise.all(doers.map((work) => keepDoing(end, work, conflicts)));
  } finally {
    await client.end();
  }
}
