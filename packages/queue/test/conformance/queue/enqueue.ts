import { describe, expect, test } from "vitest";
import type { Stage } from "../stage.ts";

/** How tasks come to be stored, once each. */
export function enqueueCases(stage: Stage): void {
  describe("enqueue", () => {
    test("a task is stored as given, and waits", async () => {
      const { app, queue } = await stage.queue({ maxAttempts: 3 });
      const { id, duplicate } = await queue.enqueue("greet", { name: "Ada" }, { partition: "p" });
      expect(duplicate).toBe(false);
      const record = await app.get(id);
      expect(record).toMatchObject({
        id,
        queue: queue.name,
        partition: "p",
        task: "greet",
        state: "waiting",
        attempt: 0,
        failures: 0,
        losses: 0,
        maxAttempts: 3,
        input: { name: "Ada" },
        result: undefined,
        error: undefined,
        startedAt: undefined,
        finishedAt: undefined,
      });
      expect(Math.abs(record!.enqueuedAt - Date.now())).toBeLessThan(60_000);
    });

    test("concurrent calls each store their own task, in the order of the calls", async () => {
      const { app, queue } = await stage.queue();
      const handles = await Promise.all(Array.from({ length: 300 }, (_, i) => queue.enqueue("t", i)));
      expect(new Set(handles.map(({ id }) => id)).size).toBe(300);
      const rows = await stage.sql(
        `SELECT t.input FROM tasks t JOIN queues q ON q.id = t.queue_id WHERE q.name = '${queue.name}' ORDER BY t.seq`,
      );
      expect(rows.map((row) => Number(row["input"]))).toEqual(Array.from({ length: 300 }, (_, i) => i));
      expect((await app.get(handles[299]!.id))?.input).toBe(299);
    });

    test("a bulk is stored in order, over many partitions", async () => {
      const { queue } = await stage.queue();
      const items = Array.from({ length: 2500 }, (_, i) => ({ task: "t", input: i, partition: `p${i % 7}` }));
      const handles = await queue.enqueueMany(items);
      expect(new Set(handles.map(({ id }) => id)).size).toBe(2500);
      const rows = await stage.sql(
        `SELECT n.partition, string_agg(t.input, ',' ORDER BY t.seq) AS inputs FROM tasks t JOIN lanes n ON n.id = t.lane_id
         JOIN queues q ON q.id = t.queue_id WHERE q.name = '${queue.name}' GROUP BY 1 ORDER BY 1`,
      );
      const wanted = Array.from({ length: 7 }, (_, p) => ({
        partition: `p${p}`,
        inputs: items
          .filter(({ input }) => input % 7 === p)
          .map(({ input }) => input)
          .join(","),
      }));
      expect(rows.map((row) => ({ partition: row["partition"], inputs: row["inputs"] }))).toEqual(wanted);
      expect(await queue.stats()).toEqual({
        waiting: 2500,
        running: 0,
        scheduled: 0,
        succeeded: 0,
        dead: 0,
        cancelled: 0,
      });
    });

    test("a bulk of nothing is nothing, and one of more than 10 000 is refused", async () => {
      const { queue } = await stage.queue();
      expect(await queue.enqueueMany([])).toEqual([]);
      const many = Array.from({ length: 10_001 }, () => ({ task: "t" }));
      await expect(queue.enqueueMany(many)).rejects.toMatchObject({ code: "batch_too_large" });
      expect((await queue.stats()).waiting).toBe(0);
    });

    test("a bulk with one bad task stores none", async () => {
      const { queue } = await stage.queue();
      const bulk = queue.enqueueMany([{ task: "t" }, { task: "t", input: "\0" }, { task: "t" }]);
      await expect(bulk).rejects.toMatchObject({ code: "payload_invalid" });
      expect((await queue.stats()).waiting).toBe(0);
    });

    test("a delayed task is scheduled, one with a past instant may start at once", async () => {
      const { app, queue } = await stage.queue();
      const delayed = await queue.enqueue("t", 1, { delayMs: 60_000 });
      const dated = await queue.enqueue("t", 2, { runAt: new Date(Date.now() + 3_600_000) });
      app.task("t", (input) => input);
      const past = await queue.enqueue("t", 3, { runAt: new Date("1999-12-31T23:59:59Z") });
      await app.work({ queues: [queue] });
      expect(await app.result(past.id)).toBe(3);
      expect(await app.get(delayed.id)).toMatchObject({ state: "scheduled", attempt: 0 });
      const { dueAt, enqueuedAt } = (await app.get(delayed.id))!;
      expect(dueAt! - enqueuedAt).toBe(60_000);
      expect((await app.get(dated.id))?.state).toBe("scheduled");
    });

    test("a delayed task starts when its time has come, on the store's clock, and not before", async () => {
      const { app, queue } = await stage.queue();
      app.task("t", (_, ctx) => ctx.attempt);
      await app.work({ queues: [queue] });
      const handles = await queue.enqueueMany([150, 50, 100].map((delayMs) => ({ task: "t", delayMs })));
      for (const { id } of handles) await app.result(id, { timeoutMs: 5000 });
      const rows = await stage.sql(
        `SELECT (t.started_us - t.enqueued_us)::float8 AS waited FROM tasks t JOIN queues q ON q.id = t.queue_id
         WHERE q.name = '${queue.name}' ORDER BY t.started_us`,
      );
      const waited = rows.map((row) => Number(row["waited"]) / 1000);
      for (const [i, delayMs] of [50, 100, 150].entries()) {
        expect(waited[i]).toBeGreaterThanOrEqual(delayMs);
        expect(waited[i]).toBeLessThan(delayMs + 400);
      }
    });
  });
  idempotencyCases(stage);
}

function idempotencyCases(stage: Stage): void {
  describe("an idempotency key", () => {
    test("stands for one task, however often and however many at once ask", async () => {
      const { queue } = await stage.queue();
      const asked = await Promise.all(
        Array.from({ length: 12 }, () =>
          queue.enqueue("t", { a: 1 }, { idempotencyKey: "k", partition: "p" }),
        ),
      );
      expect(new Set(asked.map(({ id }) => id)).size).toBe(1);
      expect(asked.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
      const again = await queue.enqueue("t", { a: 1 }, { idempotencyKey: "k", partition: "p" });
      expect(again).toEqual({ id: asked[0]!.id, duplicate: true });
      expect((await queue.stats()).waiting).toBe(1);
    });

    test.each([
      ["another input", "t", 2, "p"],
      ["another task", "u", 1, "p"],
      ["another partition", "t", 1, "q"],
    ])("with %s is a conflict, and nothing is stored", async (_, task, input, partition) => {
      const { queue } = await stage.queue();
      await queue.enqueue("t", 1, { idempotencyKey: "k", partition: "p" });
      const other = queue.enqueue(task, input, { idempotencyKey: "k", partition });
      await expect(other).rejects.toMatchObject({ code: "idempotency_conflict" });
      const bulk = queue.enqueueMany([
        { task: "t", input: 7 },
        { task: "t", input: 8, idempotencyKey: "fresh" },
        { task, input, partition, idempotencyKey: "k" },
      ]);
      await expect(bulk).rejects.toMatchObject({ code: "idempotency_conflict" });
      expect((await queue.stats()).waiting).toBe(1);
      const keys = await stage.sql("SELECT i.key FROM idempotency i WHERE i.key = 'fresh'");
      expect(keys).toEqual([]);
    });

    test("used twice in one bulk makes one task; for two different ones it is a conflict", async () => {
      const { queue } = await stage.queue();
      const [first, plain, second] = await queue.enqueueMany([
        { task: "t", input: 1, idempotencyKey: "k" },
        { task: "t", input: 1 },
        { task: "t", input: 1, idempotencyKey: "k" },
      ]);
      expect(second).toEqual({ id: first!.id, duplicate: true });
      expect(plain!.duplicate).toBe(false);
      expect((await queue.stats()).waiting).toBe(2);
      const differing = queue.enqueueMany([
        { task: "t", input: 1, idempotencyKey: "j" },
        { task: "t", input: 2, idempotencyKey: "j" },
      ]);
      await expect(differing).rejects.toMatchObject({ code: "idempotency_conflict" });
      expect((await queue.stats()).waiting).toBe(2);
    });

    test("means nothing to another queue", async () => {
      const { app, queue } = await stage.queue();
      const other = app.queue(stage.name());
      const one = await queue.enqueue("t", 1, { idempotencyKey: "k" });
      const two = await other.enqueue("t", 2, { idempotencyKey: "k" });
      expect(two.duplicate).toBe(false);
      expect(two.id).not.toBe(one.id);
    });

    test("is forgotten when its time is over, and can then stand for something else", async () => {
      const { queue } = await stage.queue();
      const first = await queue.enqueue("t", 1, { idempotencyKey: "k", idempotencyKeepMs: 60_000 });
      const rows = await stage.sql(
        `SELECT (i.expires_us - t.enqueued_us)::float8 / 1000 AS kept FROM idempotency i JOIN tasks t ON t.id = i.task_id WHERE t.id = '${first.id}'`,
      );
      expect(Number(rows[0]!["kept"])).toBeGreaterThan(59_000);
      expect(Number(rows[0]!["kept"])).toBeLessThanOrEqual(60_000);
      const { schema } = stage.engine;
      await stage.engine.sql(
        `UPDATE "${schema}".idempotency SET expires_us = 1 WHERE task_id = '${first.id}'`,
      );
      const second = await queue.enqueue("t", 2, { idempotencyKey: "k" });
      expect(second.duplicate).toBe(false);
      expect(await queue.enqueue("t", 2, { idempotencyKey: "k" })).toEqual({
        id: second.id,
        duplicate: true,
      });
    });

    test("keeps its own time in a bulk", async () => {
      const { queue } = await stage.queue();
      await queue.enqueueMany([
        { task: "t", idempotencyKey: "short", idempotencyKeepMs: 1000 },
        { task: "t", idempotencyKey: "long", idempotencyKeepMs: 3_600_000 },
      ]);
      const rows = await stage.sql(
        `SELECT i.key, round((i.expires_us - t.enqueued_us) / 1e6)::float8 AS kept FROM idempotency i JOIN tasks t ON t.id = i.task_id
         JOIN queues q ON q.id = i.queue_id WHERE q.name = '${queue.name}' ORDER BY i.key`,
      );
      expect(rows.map((row) => [row["key"], row["kept"]])).toEqual([
        ["long", 3600],
        ["short", 1],
      ]);
    });

    test("still stands for its task after that has ended", async () => {
      const { app, queue } = await stage.queue();
      app.task("t", () => "done");
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t", 1, { idempotencyKey: "k" });
      await app.result(id);
      expect(await queue.enqueue("t", 1, { idempotencyKey: "k" })).toEqual({ id, duplicate: true });
    });
  });
}
