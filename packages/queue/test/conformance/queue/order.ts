import { describe, expect, test } from "vitest";
import { gate } from "../../gate.ts";
import { jainIndex } from "../../windows.ts";
import type { Stage } from "../stage.ts";

/** Which task goes first. */
export function orderCases(stage: Stage): void {
  describe("order", () => {
    test("a partition with one slot runs its tasks one by one, in the order they were stored", async () => {
      const { app, queue } = await stage.queue({ partition: { concurrency: 1 } });
      const partitions = ["a", "b", "c"];
      const seen = new Map<string, number[]>(partitions.map((partition) => [partition, []]));
      const running = new Map<string, number>();
      let overlaps = 0;
      app.task("t", async (input: number, { partition }) => {
        const now = (running.get(partition) ?? 0) + 1;
        running.set(partition, now);
        if (now > 1) overlaps++;
        await new Promise((resolve) => setImmediate(resolve));
        seen.get(partition)!.push(input);
        running.set(partition, now - 1);
      });
      const items = Array.from({ length: 90 }, (_, i) => ({
        task: "t",
        input: i,
        partition: partitions[i % 3]!,
      }));
      const handles = await queue.enqueueMany(items);
      await Promise.all([
        app.work({ queues: [queue], concurrency: 10 }),
        app.work({ queues: [queue], concurrency: 10 }),
      ]);
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
      for (const [i, partition] of partitions.entries()) {
        expect(seen.get(partition)).toEqual(
          items.map(({ input }) => input).filter((input) => input % 3 === i),
        );
      }
      expect(overlaps).toBe(0);
    });

    test("without limits tasks of a partition are still granted in their order", async () => {
      const { app, queue } = await stage.queue();
      const granted: { input: number; fence: number }[] = [];
      app.task("t", (input: number, { fence }) => void granted.push({ input, fence }));
      const handles = await queue.enqueueMany(
        Array.from({ length: 400 }, (_, input) => ({ task: "t", input })),
      );
      await app.work({ queues: [queue], concurrency: 7 });
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
      granted.sort((a, b) => a.fence - b.fence);
      expect(granted.map(({ input }) => input)).toEqual(Array.from({ length: 400 }, (_, i) => i));
    });

    test("a task that need not wait keeps its place though others of its bulk are delayed", async () => {
      const { app, queue } = await stage.queue({ partition: { concurrency: 1 } });
      const started: unknown[] = [];
      app.task("t", (input) => void started.push(input));
      await queue.enqueueMany([
        { task: "t", input: 1, partition: "p" },
        { task: "t", input: "delayed", partition: "p", delayMs: 60_000 },
        { task: "t", input: 2, partition: "p", runAt: new Date(0) },
      ]);
      expect(await queue.stats()).toMatchObject({ waiting: 2, scheduled: 1 });
      const last = await queue.enqueue("t", 3, { partition: "p" });
      await app.work({ queues: [queue] });
      await app.result(last.id, { timeoutMs: 5000 });
      expect(started).toEqual([1, 2, 3]);
    });

    test("partitions take turns, however much each has waiting", async () => {
      const { app, queue } = await stage.queue({ rate: "100/1s" });
      const started: string[] = [];
      app.task("t", (_, { partition }) => void started.push(partition));
      const sizes = { a: 60, b: 15, c: 30, d: 15 };
      const items = Object.entries(sizes).flatMap(([partition, n]) =>
        Array.from({ length: n }, () => ({ task: "t", partition })),
      );
      const handles = await queue.enqueueMany(items);
      await app.work({ queues: [queue] });
      await Promise.all(handles.slice(60, 75).map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
      // As long as all four have something waiting.
      const shared = started.slice(0, 4 * 14);
      const shares = Object.keys(sizes).map(
        (name) => shared.filter((partition) => partition === name).length,
      );
      expect(jainIndex(shares)).toBeGreaterThan(0.98);
      await app.close();
    });

    test("a partition that comes late waits no longer than a round", async () => {
      const { app, queue } = await stage.queue({ rate: "100/1s" });
      const started: string[] = [];
      const busy = gate();
      app.task("t", (_, { partition }) => {
        started.push(partition);
        if (started.length === 20) busy.open();
      });
      await queue.enqueueMany(Array.from({ length: 200 }, () => ({ task: "t", partition: "heavy" })));
      await app.work({ queues: [queue], horizonMs: 100 });
      await busy.opened;
      const before = started.length;
      const { id } = await queue.enqueue("t", 1, { partition: "light" });
      await app.result(id, { timeoutMs: 5000 });
      // What was granted ahead (a tenth of a second, and what was granted while this was on its way) goes first.
      expect(started.indexOf("light") - before).toBeLessThan(30);
      await app.close();
    });

    test("new partitions do not starve old ones, when partitions have a rate and the queue's binds", async () => {
      const { app, queue } = await stage.queue({ rate: "50/1s", partition: { rate: "20/1s" } });
      const started: string[] = [];
      const enough = gate();
      app.task("t", (_, { partition }) => {
        started.push(partition);
        if (started.length === 60) enough.open();
      });
      await queue.enqueueMany(Array.from({ length: 40 }, () => ({ task: "t", partition: "old" })));
      // Each of these has one task and has never started anything.
      await queue.enqueueMany(Array.from({ length: 20 }, (_, i) => ({ task: "t", partition: `new ${i}` })));
      await app.work({ queues: [queue], horizonMs: 50 });
      let more = 50;
      const flood = setInterval(() => {
        const items = [0, 1, 2].map(() => ({ task: "t", partition: `new ${more++}` }));
        void queue.enqueueMany(items).catch(() => undefined);
      }, 30);
      await enough.opened;
      clearInterval(flood);
      // In 1.2 seconds the old one could start 24; with dozens of others in line its turn comes at least twice. Counted by what was
      // granted: a machine under load gives starts back as late.
      const granted = await stage.sql(
        `SELECT l.partition FROM ledger g CROSS JOIN unnest(g.starts, g.lanes) AS u (start, lane) JOIN lanes l ON l.id = u.lane
         JOIN queues q ON q.id = g.queue_id WHERE q.name = '${queue.name}' ORDER BY u.start LIMIT 60`,
      );
      expect(granted.filter((row) => row["partition"] === "old").length).toBeGreaterThan(1);
      await app.close();
    });

    test("a serial partition stays in order though its worker stands still again and again and gives starts back", async () => {
      const { app, queue } = await stage.queue({ rate: "200/1s", partition: { concurrency: 1 } });
      const started = new Map<string, number[]>([
        ["a", []],
        ["b", []],
      ]);
      let running = 0;
      let late = 0;
      app.on("late", () => late++);
      app.task("t", async (input: number, { partition }) => {
        if (partition === "a") expect(++running).toBe(1);
        started.get(partition)!.push(input);
        await new Promise((resolve) => setImmediate(resolve));
        // Longer than a start may be late.
        if (input % 9 === 0) for (const from = performance.now(); performance.now() < from + 25; );
        if (partition === "a") running--;
      });
      const items = Array.from({ length: 80 }, (_, i) => ({
        task: "t",
        input: i,
        partition: i % 2 === 0 ? "a" : "b",
      }));
      const handles = await queue.enqueueMany(items);
      await app.work({ queues: [queue], horizonMs: 200 });
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
      for (const [partition, inputs] of started) {
        expect(inputs).toEqual(
          items.filter((item) => item.partition === partition).map(({ input }) => input),
        );
      }
      expect(late).toBeGreaterThan(0);
    });

    test("a serial partition runs one at a time, in order, over workers that come and go", async () => {
      const { app, queue } = await stage.queue({ partition: { concurrency: 1 } });
      const started: number[] = [];
      let running = 0;
      let most = 0;
      app.task("t", async (input: number) => {
        most = Math.max(most, ++running);
        started.push(input);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running--;
      });
      const handles = await queue.enqueueMany(
        Array.from({ length: 150 }, (_, input) => ({ task: "t", input, partition: "p" })),
      );
      let done = false;
      const all = Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 }))).finally(() => {
        done = true;
      });
      await app.work({ queues: [queue], concurrency: 3 });
      while (!done) {
        const worker = await app.work({ queues: [queue], concurrency: 3 });
        await new Promise((resolve) => setTimeout(resolve, 15));
        await worker.stop();
      }
      await all;
      expect(started).toEqual(Array.from({ length: 150 }, (_, i) => i));
      expect(most).toBe(1);
    });

    test("a failed task steps aside: it comes again behind what waits in its partition", async () => {
      const { app, queue } = await stage.queue({
        partition: { concurrency: 1 },
        backoff: { minMs: 1, maxMs: 1 },
      });
      const started: number[] = [];
      app.task("t", async (input: number, { attempt }) => {
        started.push(input);
        if (input === 0 && attempt === 1) throw new Error("not yet");
      });
      const handles = await queue.enqueueMany(
        [0, 1, 2].map((input) => ({ task: "t", input, partition: "p" })),
      );
      await app.work({ queues: [queue], pollMs: 50 });
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 5000 })));
      expect(started.filter((input) => input !== 0)).toEqual([1, 2]);
      expect(started.filter((input) => input === 0)).toHaveLength(2);
      expect(started[0]).toBe(0);
    });
  });
}
