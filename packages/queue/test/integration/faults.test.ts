import pg from "pg";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { freePort } from "../../../../tools/servers/ports.ts";
import { startPostgres } from "../../../../tools/servers/postgres.ts";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { isSluiceError, type Sluice, sluice } from "../../src/index.ts";
import { pause, until } from "../gate.ts";
import { invariants, type Sql } from "../invariants.ts";
import { LossyProxy } from "./lossy-proxy.ts";
import { workerProcesses } from "./worker-process.ts";

const { url, schema } = freshDatabase("faults");
const pool = new pg.Pool({ connectionString: url, max: 2 });
const sql: Sql = async (text) => (await pool.query<Record<string, unknown>>(text)).rows;
const startWorkers = workerProcesses();
const closing: { close(): Promise<unknown> }[] = [];

afterEach(async () => {
  for (const each of closing.splice(0).reverse()) await each.close();
});
afterAll(() => pool.end());

async function open(database: string): Promise<Sluice> {
  const app = await sluice({ database, schema });
  app.on("error", () => undefined);
  closing.push(app);
  return app;
}

describe("an answer that is lost after the commit", () => {
  test("of a claim: the leases nobody knows of are given back, each task runs once, nothing is stuck", async () => {
    const proxy = await LossyProxy.to(url);
    closing.push(proxy);
    const direct = await open(url);
    const through = await open(proxy.url(url));
    const ran: number[] = [];
    const app = through;
    app.task("t", (input: { n: number }) => void ran.push(input.n));
    const stale: string[] = [];
    app.on("stale", ({ id }) => stale.push(id));
    await app.work({
      queues: [app.queue("claims", { partition: { concurrency: 1 } })],
      leaseMs: 3000,
      pollMs: 200,
    });
    proxy.loseOne({ answer: "the-marker" });
    const items = Array.from({ length: 20 }, (_, n) => ({
      task: "t",
      input: { n, text: "the-marker" },
      partition: `p${n % 5}`,
    }));
    const handles = await direct.queue("claims", { partition: { concurrency: 1 } }).enqueueMany(items);
    await Promise.all(handles.map(({ id }) => direct.result(id, { timeoutMs: 10_000 })));
    expect(proxy.lost).toBe(1);
    expect([...ran].sort((a, b) => a - b)).toEqual(items.map((_, n) => n));
    expect(stale).toEqual([]);
    for (const { id } of handles) expect(await direct.get(id)).toMatchObject({ attempt: 1, losses: 0 });
    expect(await invariants(sql, schema)).toEqual([]);
  });

  test("of an end: it is said again, counts once, and nobody is told that it was stale", async () => {
    const proxy = await LossyProxy.to(url);
    closing.push(proxy);
    const direct = await open(url);
    const app = await open(proxy.url(url));
    const stale: string[] = [];
    app.on("stale", ({ id }) => stale.push(id));
    let runs = 0;
    app.task("t", () => {
      runs++;
      return "the-result-marker";
    });
    await app.work({ queues: [app.queue("ends")], leaseMs: 3000 });
    proxy.loseOne({ request: "the-result-marker" });
    const { id } = await direct.queue("ends").enqueue("t");
    expect(await direct.result(id, { timeoutMs: 10_000 })).toBe("the-result-marker");
    const next = await direct.queue("ends").enqueue("t");
    expect(await direct.result(next.id, { timeoutMs: 10_000 })).toBe("the-result-marker");
    expect(proxy.lost).toBe(1);
    expect(runs).toBe(2);
    expect(stale).toEqual([]);
  });

  test("of an enqueue: the error says that it may have been stored, and with a key asking again finds it", async () => {
    const proxy = await LossyProxy.to(url);
    closing.push(proxy);
    const queue = (await open(proxy.url(url))).queue("asked");
    await queue.stats();
    proxy.loseOne({ request: "the-input-marker" });
    const lost = queue.enqueue("t", "the-input-marker", { idempotencyKey: "k" });
    const error: unknown = await lost.catch((thrown: unknown) => thrown);
    expect(isSluiceError(error, "store_unavailable")).toBe(true);
    expect(await queue.enqueue("t", "the-input-marker", { idempotencyKey: "k" })).toMatchObject({
      duplicate: true,
    });
    expect((await queue.stats()).waiting).toBe(1);
  });
});

test("all connections break at once, again and again: every task ends, and the waiting callers hear of it", async () => {
  const proxy = await LossyProxy.to(url);
  closing.push(proxy);
  const app = await open(proxy.url(url));
  const direct = await open(url);
  app.task("t", async (input) => {
    await pause(20);
    return input;
  });
  const queue = app.queue("broken");
  await app.work({ queues: [queue], concurrency: 5, leaseMs: 2000, pollMs: 300 });
  const handles = await direct
    .queue("broken")
    .enqueueMany(Array.from({ length: 200 }, (_, input) => ({ task: "t", input })));
  const results = Promise.all(handles.map(({ id }) => direct.result(id, { timeoutMs: 20_000 })));
  for (let round = 0; round < 4; round++) {
    await pause(150);
    proxy.breakAll();
  }
  expect(await results).toEqual(Array.from({ length: 200 }, (_, i) => i));
});

test("PostgreSQL stops at once and comes back: nothing acknowledged is lost, no process ends, work goes on by itself", async () => {
  const server = await startPostgres();
  closing.push({ close: () => server.stop() });
  const app = await sluice({ database: server.url });
  closing.push(app);
  app.on("error", () => undefined);
  const options = { partition: { concurrency: 2 } };
  const queue = app.queue("q", options);
  const order = {
    url: server.url,
    schema: "sluice",
    queue: "q",
    options,
    work: { leaseMs: 3000, pollMs: 500 },
  };
  const workers = await startWorkers(order, 2);
  const acknowledged: string[] = [];
  let enqueueing = true;
  const client = (async () => {
    for (let n = 0; enqueueing; n++) {
      const sent = queue.enqueue("t", n, { partition: `p${n % 3}`, idempotencyKey: `k${n}` });
      await sent.then(
        ({ id }) => acknowledged.push(id),
        () => pause(20),
      );
    }
  })();
  await until("work is under way", () => workers.every((worker) => worker.starts.length > 5));
  const before = acknowledged.length;
  await server.stopImmediate();
  await pause(300);
  await server.start();
  await until("the client gets through again", () => acknowledged.length > before + 20, 15_000);
  enqueueing = false;
  await client;
  await Promise.all(acknowledged.map((id) => app.result(id, { timeoutMs: 15_000 })));
  expect(workers.map((worker) => worker.alive)).toEqual([true, true]);
  const started = new Set(workers.flatMap((worker) => worker.starts.map(({ id }) => id)));
  expect(acknowledged.filter((id) => !started.has(id))).toEqual([]);
  await Promise.all(workers.map((worker) => worker.end("SIGTERM")));
  const look = new pg.Client(server.url);
  await look.connect();
  expect(
    await invariants(async (text) => (await look.query<Record<string, unknown>>(text)).rows, "sluice"),
  ).toEqual([]);
  await look.end();
});

test("a database that cannot be reached is said so at once, and an app that loses it for good still closes", async () => {
  const port = await freePort();
  const from = performance.now();
  const opened = sluice({ database: `postgres://postgres@127.0.0.1:${port}/postgres` });
  await expect(opened).rejects.toMatchObject({ code: "store_unavailable", retryable: true });
  expect(performance.now() - from).toBeLessThan(5000);
  const proxy = await LossyProxy.to(url);
  const app = await sluice({ database: proxy.url(url), schema });
  app.on("error", () => undefined);
  await app.work({ queues: [app.queue("lost")], drainMs: 200 });
  await proxy.close();
  await expect(app.queue("lost").enqueue("t")).rejects.toMatchObject({ code: "store_unavailable" });
  const closed = performance.now();
  await app.close();
  expect(performance.now() - closed).toBeLessThan(10_000);
});
