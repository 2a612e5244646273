import pg from "pg";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { type Queue, type Sluice, sluice } from "../../src/index.ts";
import { inSchema, invariants, type Sql } from "../invariants.ts";

const { url, schema } = freshDatabase("transactional");
const pool = new pg.Pool({ connectionString: url, max: 4 });
const sql: Sql = async (text) => (await pool.query<Record<string, unknown>>(text)).rows;
let app: Sluice;
let queue: Queue;
let count = 0;
const clients: pg.PoolClient[] = [];

/** A client of the caller's own, in a transaction. */
async function begin(): Promise<pg.PoolClient> {
  const client = await pool.connect();
  clients.push(client);
  await client.query("BEGIN");
  return client;
}

beforeEach(async () => {
  app = await sluice({ database: url, schema });
  queue = app.queue(`orders ${++count}`);
  await queue.stats();
});
afterEach(async () => {
  await app.close();
  for (const client of clients.splice(0)) {
    await client.query("ROLLBACK");
    client.release();
  }
  expect(await invariants(sql, schema)).toEqual([]);
});
afterAll(() => pool.end());

async function inputsInOrder(): Promise<unknown[]> {
  const text = `SELECT t.input FROM tasks t JOIN queues q ON q.id = t.queue_id WHERE q.name = '${queue.name}' ORDER BY t.lane_id, t.seq`;
  return (await sql(inSchema(schema, text))).map((row) => JSON.parse(String(row["input"])) as unknown);
}

test("a task enqueued in a transaction exists if and when that commits", async () => {
  const client = await begin();
  const kept = await queue.enqueue("t", "kept", { client });
  const bulk = await queue.enqueueMany(
    [
      { task: "t", input: "many" },
      { task: "t", input: "later", delayMs: 60_000 },
    ],
    { client },
  );
  expect(await app.get(kept.id)).toBeUndefined();
  expect((await queue.stats()).waiting).toBe(0);
  await client.query("COMMIT");
  expect((await app.get(kept.id))?.state).toBe("waiting");
  expect(await queue.stats()).toMatchObject({ waiting: 2, scheduled: 1 });
  expect((await app.get(bulk[1]!.id))?.state).toBe("scheduled");
});

test("a rollback, of all or to a savepoint, takes its tasks and keys with it", async () => {
  const client = await begin();
  const gone = await queue.enqueue("t", 1, { client, idempotencyKey: "k" });
  await client.query("ROLLBACK");
  expect(await app.get(gone.id)).toBeUndefined();
  await client.query("BEGIN");
  await queue.enqueue("t", "before", { client });
  await client.query("SAVEPOINT s");
  await queue.enqueue("t", "undone", { client, idempotencyKey: "k" });
  await client.query("ROLLBACK TO SAVEPOINT s");
  await queue.enqueue("t", "after", { client });
  await client.query("COMMIT");
  expect(await inputsInOrder()).toEqual(["before", "after"]);
  expect((await queue.enqueue("t", 3, { idempotencyKey: "k" })).duplicate).toBe(false);
});

test("places in a partition follow the order of commits, not of calls", async () => {
  const early = await begin();
  const late = await begin();
  await queue.enqueue("t", "called first, committed last", { client: late, partition: "p" });
  await queue.enqueue("t", "called second, committed first", { client: early, partition: "p" });
  await queue.enqueue("t", "outside", { partition: "p" });
  await early.query("COMMIT");
  await late.query("COMMIT");
  expect(await inputsInOrder()).toEqual([
    "outside",
    "called second, committed first",
    "called first, committed last",
  ]);
});

test("a transaction left open holds nobody up: others enqueue into the same partitions and run", async () => {
  const holder = await begin();
  await queue.enqueueMany(
    ["p", "q"].map((partition) => ({ task: "t", input: "held", partition })),
    { client: holder },
  );
  app.task("t", (input) => input);
  await app.work({ queues: [queue] });
  const others = await queue.enqueueMany(
    ["p", "q", "p"].map((partition) => ({ task: "t", input: partition, partition })),
  );
  expect(await Promise.all(others.map(({ id }) => app.result(id, { timeoutMs: 3000 })))).toEqual([
    "p",
    "q",
    "p",
  ]);
  const { id } = await queue.enqueue("t", "single", { partition: "p" });
  expect(await app.result(id, { timeoutMs: 3000 })).toBe("single");
  await holder.query("COMMIT");
  await app.result((await queue.enqueue("t", "last", { partition: "p" })).id, { timeoutMs: 3000 });
  expect((await queue.stats()).succeeded).toBe(7);
});

test("a commit wakes a worker that sleeps", async () => {
  app.task("t", (input) => input);
  await app.work({ queues: [queue], pollMs: 60_000 });
  await app.result((await queue.enqueue("t", 0)).id, { timeoutMs: 3000 });
  const client = await begin();
  const { id } = await queue.enqueue("t", 1, { client });
  await client.query("COMMIT");
  expect(await app.result(id, { timeoutMs: 3000 })).toBe(1);
});

test("a key that is taken by another transaction waits for it, and then stands for its task", async () => {
  const first = await begin();
  const original = await queue.enqueue("t", 1, { client: first, idempotencyKey: "k" });
  const asked = queue.enqueue("t", 1, { idempotencyKey: "k" });
  await first.query("COMMIT");
  expect(await asked).toEqual({ id: original.id, duplicate: true });
  expect((await queue.stats()).waiting).toBe(1);
});

test("a conflict of keys fails the call by name; to a savepoint the transaction goes on", async () => {
  await queue.enqueue("t", 1, { idempotencyKey: "k" });
  const client = await begin();
  await client.query("SAVEPOINT s");
  const refused = queue.enqueue("t", 2, { client, idempotencyKey: "k" });
  await expect(refused).rejects.toMatchObject({ code: "idempotency_conflict" });
  await client.query("ROLLBACK TO SAVEPOINT s");
  await queue.enqueue("t", 3, { client });
  await client.query("COMMIT");
  expect(await inputsInOrder()).toEqual([1, 3]);
});

test("a client that is in no transaction is refused, or its task is stored at once", async () => {
  const client = await pool.connect();
  clients.push(client);
  const { id } = await queue.enqueue("t", 1, { client }).catch((error: { code?: unknown }) => {
    expect(error.code).toBe("not_transactional");
    return { id: undefined };
  });
  if (id !== undefined) expect((await app.get(id))?.state).toBe("waiting");
});
