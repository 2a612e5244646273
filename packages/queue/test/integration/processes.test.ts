import pg from "pg";
import { afterAll, afterEach, expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { type QueueOptions, type Sluice, sluice } from "../../src/index.ts";
import { monotonicUs, pause, until } from "../gate.ts";
import { budgets, inSchema, invariants, type Sql } from "../invariants.ts";
import { mostInAnyWindow } from "../windows.ts";
import { workerProcesses } from "./worker-process.ts";

const { url, schema } = freshDatabase("processes");
const pool = new pg.Pool({ connectionString: url, max: 2 });
const sql: Sql = async (text) => (await pool.query<Record<string, unknown>>(text)).rows;
const startWorkers = workerProcesses();
const apps: Sluice[] = [];

afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  expect(await invariants(sql, schema)).toEqual([]);
});
afterAll(() => pool.end());

async function open(name: string, options: QueueOptions) {
  const app = await sluice({ database: url, schema });
  apps.push(app);
  return { app, queue: app.queue(name, options) };
}

async function ledgerOf(name: string): Promise<readonly number[]> {
  return (await budgets(sql, schema)).find(({ queue }) => queue === name)!.starts;
}

test("three worker processes share one budget: no window over, neither in the ledger nor at the handlers", async () => {
  const options: QueueOptions = { rate: "20/1s" };
  const { app, queue } = await open("shared", options);
  const workers = await startWorkers({ url, schema, queue: "shared", options, work: {} }, 3);
  const items = Array.from({ length: 90 }, (_, input) => ({ task: "t", input, partition: `p${input % 3}` }));
  const handles = await queue.enqueueMany(items);
  await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 30_000 })));
  const starts = workers.flatMap((worker) => worker.starts.map(({ atUs }) => atUs));
  expect(starts).toHaveLength(90);
  expect(mostInAnyWindow(starts, 1_000_000)).toBeLessThanOrEqual(20);
  const granted = await ledgerOf("shared");
  expect(mostInAnyWindow(granted, 1_000_000)).toBeLessThanOrEqual(20);
  expect(granted.length).toBeGreaterThanOrEqual(90);
});

test("a worker that is killed: what it ran starts again elsewhere within lease and two seconds", async () => {
  const options: QueueOptions = { partition: { concurrency: 1 } };
  const { app, queue } = await open("killed", options);
  const order = { url, schema, queue: "killed", options, work: { leaseMs: 5000 } };
  const [victim] = await startWorkers(order);
  const handles = await queue.enqueueMany(
    ["a", "b", "c"].map((partition) => ({ task: "hold", input: partition, partition })),
  );
  await until("the victim runs all", () => victim!.starts.length === 3);
  const [heir] = await startWorkers(order);
  const killedAtUs = monotonicUs();
  await victim!.end("SIGKILL");
  const results = await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 15_000 })));
  expect(results).toEqual(["again", "again", "again"]);
  for (const { atUs, attempt } of heir!.starts) {
    expect(atUs - killedAtUs).toBeLessThan(7_000_000);
    expect(attempt).toBe(2);
  }
  expect(await app.get(handles[0]!.id)).toMatchObject({ losses: 1, failures: 0 });
});

test("a worker that stands still with starts granted to it does not make them late: it gives them back", async () => {
  const options: QueueOptions = { rate: "20/1s" };
  const { app, queue } = await open("stopped", options);
  const order = {
    url,
    schema,
    queue: "stopped",
    options,
    work: { leaseMs: 20_000, horizonMs: 1000, name: "sleeper" },
  };
  const [sleeper] = await startWorkers(order);
  const items = Array.from({ length: 140 }, (_, input) => ({ task: "t", input }));
  const handles = await queue.enqueueMany(items);
  const holds = async (): Promise<boolean> => {
    const running =
      "SELECT count(*)::int AS n FROM runs r JOIN workers w ON w.id = r.worker_id WHERE w.name = 'sleeper'";
    const [row] = await sql(inSchema(schema, running));
    return Number(row!["n"]) >= 6;
  };
  await until(
    "it has begun and holds starts ahead",
    async () => sleeper!.starts.length > 2 && (await holds()),
  );
  sleeper!.signal("SIGSTOP");
  const [[other]] = await Promise.all([
    startWorkers({ ...order, work: { ...order.work, name: "other" } }),
    pause(3000),
  ]);
  const asleep = sleeper!.starts.length;
  const awakeUs = monotonicUs();
  sleeper!.signal("SIGCONT");
  await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 30_000 })));
  expect(sleeper!.count("late")).toBeGreaterThan(0);
  const starts = [...sleeper!.starts, ...other!.starts].map(({ atUs }) => atUs);
  expect(mostInAnyWindow(starts, 1_000_000)).toBeLessThanOrEqual(20);
  expect(mostInAnyWindow(await ledgerOf("stopped"), 1_000_000)).toBeLessThanOrEqual(20);
  // Nobody else took its place, and it goes on serving.
  expect(sleeper!.starts.length).toBeGreaterThan(asleep);
  expect(sleeper!.starts.slice(asleep).every(({ atUs }) => atUs > awakeUs)).toBe(true);
  expect(new Set([...sleeper!.starts, ...other!.starts].map(({ id }) => id)).size).toBe(140);
  expect([...sleeper!.starts, ...other!.starts].every(({ attempt }) => attempt === 1)).toBe(true);
});

test("a worker that stands still past its lease finds out, and what it then reports changes nothing", async () => {
  const options: QueueOptions = { partition: { concurrency: 1 } };
  const { app, queue } = await open("zombie", options);
  const order = { url, schema, queue: "zombie", options, work: { leaseMs: 1000 }, holdMs: 2500 };
  const [zombie] = await startWorkers(order);
  const { id } = await queue.enqueue("hold", 1, { partition: "p" });
  await until("it runs", () => zombie!.starts.length === 1);
  zombie!.signal("SIGSTOP");
  const [heir] = await startWorkers(order);
  expect(await app.result(id, { timeoutMs: 10_000 })).toBe("again");
  await pause(500);
  zombie!.signal("SIGCONT");
  await until("it has noticed", () => zombie!.count("lease-lost") === 1 && zombie!.count("stale") > 0);
  expect(await app.get(id)).toMatchObject({ state: "succeeded", result: "again", attempt: 2, losses: 1 });
  expect(heir!.count("recovered")).toBe(1);
  // It joins anew and serves on.
  await heir!.end("SIGKILL");
  const next = await queue.enqueue("t", 2, { partition: "q" });
  expect(await app.result(next.id, { timeoutMs: 10_000 })).toBe(2);
});

test("a worker that is told to end gives back what it has not started, at once", async () => {
  const options: QueueOptions = { rate: "10/1s" };
  const { app, queue } = await open("told", options);
  const order = { url, schema, queue: "told", options, work: { leaseMs: 60_000, horizonMs: 2000 } };
  const [first] = await startWorkers(order);
  const handles = await queue.enqueueMany(Array.from({ length: 25 }, (_, input) => ({ task: "t", input })));
  await until("it has begun", () => first!.starts.length > 0);
  await first!.end("SIGTERM");
  expect(first!.count("gone")).toBe(1);
  expect((await queue.stats()).running).toBe(0);
  const [second] = await startWorkers(order);
  await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
  const starts = [...first!.starts, ...second!.starts];
  expect(starts.map(({ input }) => Number(input)).sort((a, b) => a - b)).toEqual(
    Array.from({ length: 25 }, (_, i) => i),
  );
  expect(
    mostInAnyWindow(
      starts.map(({ atUs }) => atUs),
      1_000_000,
    ),
  ).toBeLessThanOrEqual(10);
});

test("a task that kills its process is dead after the losses it is allowed, and what ran beside it is done, in order", {
  timeout: 120_000,
}, async () => {
  const maxLosses = 6;
  const serial: QueueOptions = { maxLosses, partition: { concurrency: 1 } };
  const { app, queue } = await open("poisoned", serial);
  const beside = app.queue("beside", { maxLosses });
  const order = {
    url,
    schema,
    queue: "poisoned",
    options: serial,
    second: { queue: "beside", options: { maxLosses } },
    work: { leaseMs: 1000 },
    holdMs: 2500,
  };
  const lanes = [0, 1, 2, 3];
  const long = (n: number) => ({ task: "long", input: n, partition: `p${Math.floor(n / 100)}` });
  const before = [
    ...(await queue.enqueueMany(lanes.flatMap((lane) => [100 * lane, 100 * lane + 1].map(long)))),
    ...(await beside.enqueueMany(Array.from({ length: 10 }, (_, n) => long(1000 + n)))),
  ];
  const poison = await queue.enqueue("poison", 2, { partition: "p4" });
  const after = await queue.enqueueMany(
    [...lanes, 4].flatMap((lane) => (lane === 4 ? [403, 404] : [100 * lane + 3]).map(long)),
  );
  const workers = await startWorkers(order, 3);
  const innocents = [...before, ...after].map(({ id }) => id);
  const dead = app.result(poison.id, { timeoutMs: 100_000 }).catch((error: unknown) => error);
  const done = Promise.all([dead, ...innocents.map((id) => app.result(id, { timeoutMs: 100_000 }))]);
  let settled = false;
  void done.catch(() => undefined).finally(() => (settled = true));
  while (!settled) {
    const lost = 3 - workers.filter((worker) => worker.alive).length;
    if (lost > 0) workers.push(...(await startWorkers(order, lost).catch(() => [])));
    await pause(20);
  }
  expect(await done.then(([error]) => error)).toMatchObject({ details: { error: { code: "lease_lost" } } });
  expect(await app.get(poison.id)).toMatchObject({ state: "dead", losses: maxLosses, failures: 0 });
  const records = await Promise.all(innocents.map((id) => app.get(id)));
  expect(records.map((record) => record?.state)).toEqual(innocents.map(() => "succeeded"));
  expect(Math.max(...records.map((record) => record!.losses))).toBeLessThanOrEqual(3);
  expect(records.filter((record) => record!.losses >= 2).length).toBeGreaterThan(0);
  const starts = workers.flatMap((worker) => worker.starts).sort((a, b) => a.atUs - b.atUs);
  for (const lane of lanes) {
    const inputs = starts
      .map(({ input }) => Number(input))
      .filter((n) => Math.floor(n / 100) === lane && n !== 2);
    expect(inputs).toEqual([...inputs].sort((a, b) => a - b));
  }
  // What stands behind it in its partition starts when it is dead.
  const behind = starts.findIndex(({ input }) => input === 403);
  expect(starts.slice(behind).filter(({ id }) => id === poison.id)).toEqual([]);
});

test("a worker told to end hands over what outlasts its drain: the next attempt is the second and has its steps", async () => {
  const options: QueueOptions = {};
  const { app, queue } = await open("outlasting", options);
  const drainMs = 1000;
  const order = { url, schema, queue: "outlasting", options, work: { leaseMs: 60_000, drainMs } };
  const [first] = await startWorkers(order);
  const { id } = await queue.enqueue("steps");
  const recorded = async (): Promise<boolean> => {
    const [row] = await sql(
      inSchema(schema, `SELECT count(*)::int AS n FROM steps s WHERE s.task_id = '${id}'`),
    );
    return row!["n"] === 1;
  };
  await until("its step is recorded", recorded);
  await startWorkers(order);
  const toldUs = monotonicUs();
  first!.signal("SIGTERM");
  await until("it is gone", () => first!.count("gone") === 1);
  expect(monotonicUs() - toldUs).toBeLessThan((drainMs + 1000) * 1000);
  expect(await app.result(id, { timeoutMs: 5000 })).toEqual({ first: 1, attempt: 2 });
});

test("a handler that blocks its process past the lease loses it: the task runs elsewhere, the late end changes nothing", async () => {
  const options: QueueOptions = { partition: { concurrency: 1 } };
  const { app, queue } = await open("blocked", options);
  const order = { url, schema, queue: "blocked", options, work: { leaseMs: 1000 } };
  const [blocked] = await startWorkers(order);
  const { id } = await queue.enqueue("block", { firstMs: 3500 }, { partition: "p" });
  await until("it blocks", () => blocked!.starts.length === 1);
  const [other] = await startWorkers(order);
  expect(await app.result(id, { timeoutMs: 10_000 })).toBe(2);
  await until(
    "the blocked one has noticed, and that its end came late",
    () => blocked!.count("lease-lost") === 1 && blocked!.count("stale") === 1,
  );
  expect(await app.get(id)).toMatchObject({ state: "succeeded", result: 2, losses: 1 });
  expect(other!.starts).toHaveLength(1);
  const next = await queue.enqueue("t", "next", { partition: "p" });
  expect(await app.result(next.id, { timeoutMs: 5000 })).toBe("next");
});
