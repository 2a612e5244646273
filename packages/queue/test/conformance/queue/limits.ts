import { describe, expect, test } from "vitest";
import type { QueueOptions, Sluice } from "../../../src/index.ts";
import { gate, monotonicUs, until } from "../../gate.ts";
import { mostInAnyWindow } from "../../windows.ts";
import type { Stage } from "../stage.ts";

/** Runs tasks over some partitions with two workers; returns when each handler was called, by partition. */
async function run(
  app: Sluice,
  queueName: string,
  counts: Readonly<Record<string, number>>,
): Promise<Map<string, number[]>> {
  const started = new Map<string, number[]>(Object.keys(counts).map((partition) => [partition, []]));
  app.task("t", (_, { partition }) => void started.get(partition)!.push(monotonicUs()));
  const queue = app.queue(queueName);
  const rounds = Math.max(...Object.values(counts));
  const items = Array.from({ length: rounds }, (_, round) =>
    Object.entries(counts).flatMap(([partition, n]) => (round < n ? [{ task: "t", partition }] : [])),
  ).flat();
  const handles = await queue.enqueueMany(items);
  await Promise.all([app.work({ queues: [queue] }), app.work({ queues: [queue] })]);
  await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 30_000 })));
  return started;
}

const spreadMs = (times: readonly number[]): number => (Math.max(...times) - Math.min(...times)) / 1000;

/** Budgets and slots: never more than they allow, and not much less. */
export function limitCases(stage: Stage): void {
  describe("a rate", () => {
    test("of a queue holds over all its partitions and workers, in any window, and starts are evenly spaced", async () => {
      const { app, queue } = await stage.queue({ rate: "50/1s" });
      const started = await run(app, queue.name, { a: 25, b: 25, c: 20 });
      const granted = await stage.starts(queue);
      expect(mostInAnyWindow(granted, 1_000_000)).toBeLessThanOrEqual(50);
      expect(mostInAnyWindow([...started.values()].flat(), 1_000_000)).toBeLessThanOrEqual(50);
      const gaps = granted.slice(1).map((start, i) => start - granted[i]!);
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(20_239);
      // 69 intervals of 20.24 ms; what is late is given back and costs a start.
      expect(spreadMs(granted)).toBeLessThan(1.5 * 69 * 20.24);
    });

    test("allows its burst at once and its pace after that", async () => {
      const { app, queue } = await stage.queue({ rate: "20/1s", burst: 5 });
      await run(app, queue.name, { a: 20 });
      const granted = await stage.starts(queue);
      expect(mostInAnyWindow(granted, 1_000_000)).toBeLessThanOrEqual(24);
      expect(mostInAnyWindow(granted, 50_000)).toBeGreaterThanOrEqual(5);
      expect(mostInAnyWindow(granted, 50_600)).toBeLessThanOrEqual(6);
    });

    test("of a partition holds for each by itself, and they do not wait for each other", async () => {
      const { app, queue } = await stage.queue({ partition: { rate: "20/1s" } });
      const started = await run(app, queue.name, { a: 14, b: 14, c: 14 });
      for (const times of started.values()) {
        expect(mostInAnyWindow(times, 1_000_000)).toBeLessThanOrEqual(20);
        // 50.6 ms apart, less what one may be late.
        expect(mostInAnyWindow(times, 43_000)).toBe(1);
      }
      expect(spreadMs([...started.values()].flat())).toBeLessThan(1.6 * 13 * 50.6);
    });

    test("of a partition allows a burst of its own", async () => {
      const { app, queue } = await stage.queue({ partition: { rate: "20/1s", burst: 3 } });
      const started = await run(app, queue.name, { a: 10, b: 10 });
      for (const times of started.values()) expect(mostInAnyWindow(times, 1_000_000)).toBeLessThanOrEqual(22);
    });

    test("of the queue and one of each partition bind together", async () => {
      const { app, queue } = await stage.queue({ rate: "40/1s", partition: { rate: "20/1s" } });
      const started = await run(app, queue.name, { a: 10, b: 20, c: 10 });
      expect(mostInAnyWindow(await stage.starts(queue), 1_000_000)).toBeLessThanOrEqual(40);
      expect(mostInAnyWindow([...started.values()].flat(), 1_000_000)).toBeLessThanOrEqual(40);
      for (const times of started.values()) expect(mostInAnyWindow(times, 1_000_000)).toBeLessThanOrEqual(20);
    });

    test("charges every start: retries too, and what the ledger says is what was started", async () => {
      const { app, queue } = await stage.queue({
        rate: "50/1s",
        maxAttempts: 3,
        backoff: { minMs: 1, maxMs: 1 },
      });
      const fences = new Set<number>();
      const late = new Set<number>();
      app.on("late", ({ task }) => late.add(task.fence));
      app.task("t", (_, { fence }) => {
        fences.add(fence);
        throw new Error("no");
      });
      const handles = await queue.enqueueMany(Array.from({ length: 5 }, () => ({ task: "t" })));
      await app.work({ queues: [queue], pollMs: 50 });
      await Promise.allSettled(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
      expect(fences.size).toBe(15);
      const rows = await stage.sql(
        `SELECT f::float8 AS fence FROM ledger g CROSS JOIN unnest(g.fences) AS f JOIN queues q ON q.id = g.queue_id WHERE q.name = '${queue.name}'`,
      );
      const booked = new Set(rows.map((row) => Number(row["fence"])));
      expect(booked).toEqual(new Set([...fences, ...late]));
    });

    test.each<[string, QueueOptions]>([
      ["20/100ms", { rate: "20/100ms" }],
      ["1/10ms", { rate: "1/10ms" }],
      ["50/1s without a guard", { rate: "50/1s", guardMs: 0 }],
      ["1000000/1s", { rate: "1000000/1s", burst: 1000 }],
      ["a large burst at an uneven rate", { rate: "9999991/31536000s", burst: 1000 }],
    ])("of %s is served", async (_, options) => {
      const { app, queue } = await stage.queue(options);
      const started = await run(app, queue.name, { a: 10, b: 10 });
      expect([...started.values()].flat()).toHaveLength(20);
    });
  });
  changeCases(stage);
  slotCases(stage);
}

function changeCases(stage: Stage): void {
  describe("a changed rate", () => {
    test("keeps what was consumed: the next start is as far off as the old rate or the new one says", async () => {
      const { app, queue } = await stage.queue({ rate: "2/1s" });
      stage.changes(queue);
      app.task("t", () => 1);
      const handles = await queue.enqueueMany(Array.from({ length: 3 }, () => ({ task: "t" })));
      const worker = await app.work({ queues: [queue], horizonMs: 20 });
      await app.result(handles[0]!.id, { timeoutMs: 5000 });
      await worker.stop();
      const other = await stage.app();
      other.task("t", () => 1);
      await other.work({ queues: [other.queue(queue.name, { rate: "10/1s" })] });
      for (const { id } of handles) await other.result(id, { timeoutMs: 5000 });
      const starts = await stage.starts(queue);
      const gaps = starts.slice(1).map((start, i) => start - starts[i]!);
      expect(gaps[0]).toBeGreaterThanOrEqual(101_199);
      expect(gaps.at(-1)).toBeGreaterThanOrEqual(101_199);
    });

    test.each<[string, QueueOptions, QueueOptions]>([
      ["of a queue", { rate: "1/3600s", guardMs: 5000 }, { rate: "20/1s" }],
      ["of its partitions", { partition: { rate: "1/3600s" } }, { partition: { rate: "20/1s" } }],
      ["of a queue, taken away", { rate: "1/3600s", guardMs: 5000 }, {}],
      ["of its partitions, taken away", { partition: { rate: "1/3600s" } }, {}],
    ])(
      "%s that is raised takes effect now, not when the old one would have allowed",
      async (_, before, after) => {
        const { app, queue } = await stage.queue(before);
        stage.changes(queue);
        app.task("t", () => 1);
        const handles = await queue.enqueueMany(
          Array.from({ length: 3 }, () => ({ task: "t", partition: "p" })),
        );
        const worker = await app.work({ queues: [queue] });
        await app.result(handles[0]!.id, { timeoutMs: 5000 });
        await worker.stop();
        const other = await stage.app();
        other.task("t", () => 1);
        await other.work({ queues: [other.queue(queue.name, after)] });
        await Promise.all(handles.map(({ id }) => other.result(id, { timeoutMs: 4000 })));
      },
    );
  });
}

function slotCases(stage: Stage): void {
  describe("slots", () => {
    test("of a partition, of the queue and of a worker are never more than allowed, and all get used", async () => {
      const { app, queue } = await stage.queue({ concurrency: 5, partition: { concurrency: 2 } });
      const running = new Map<string, number>();
      const most = new Map<string, number>();
      const count = (scope: string, by: number): void => {
        const now = (running.get(scope) ?? 0) + by;
        running.set(scope, now);
        most.set(scope, Math.max(now, most.get(scope) ?? 0));
      };
      app.task("t", async (_, { partition }) => {
        count("queue", 1);
        count(partition, 1);
        await new Promise((resolve) => setTimeout(resolve, 10));
        count("queue", -1);
        count(partition, -1);
      });
      const items = Array.from({ length: 60 }, (_, i) => ({ task: "t", partition: `p${i % 4}` }));
      const handles = await queue.enqueueMany(items);
      await Promise.all([
        app.work({ queues: [queue], concurrency: 4 }),
        app.work({ queues: [queue], concurrency: 4 }),
      ]);
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
      expect(Object.fromEntries(most)).toEqual({ queue: 5, p0: 2, p1: 2, p2: 2, p3: 2 });
    });

    test("of a worker bound what it runs over all its queues", async () => {
      const { app, queue } = await stage.queue();
      const other = app.queue(stage.name());
      let running = 0;
      let most = 0;
      app.task("t", async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running--;
      });
      const items = Array.from({ length: 20 }, () => ({ task: "t" }));
      const handles = [...(await queue.enqueueMany(items)), ...(await other.enqueueMany(items))];
      await app.work({ queues: [queue, other], concurrency: 3 });
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 20_000 })));
      expect(most).toBe(3);
    });

    test.each<[string, QueueOptions, QueueOptions]>([
      ["a partition", { partition: { concurrency: 4 } }, { partition: { concurrency: 1 } }],
      ["the queue", { concurrency: 4 }, { concurrency: 1 }],
    ])(
      "of %s that are reduced while more run: what runs ends, and then the new number holds",
      async (_, before, after) => {
        const { app, queue } = await stage.queue(before);
        const held = new Map<number, () => void>();
        let freed = false;
        let running = 0;
        let most = 0;
        app.task("t", async (input: number) => {
          running++;
          if (freed) most = Math.max(most, running);
          else await new Promise<void>((resolve) => held.set(input, resolve));
          await new Promise((resolve) => setTimeout(resolve, 2));
          running--;
        });
        const handles = await queue.enqueueMany(
          Array.from({ length: 10 }, (_, input) => ({ task: "t", input, partition: "p" })),
        );
        const worker = await app.work({ queues: [queue], pollMs: 50 });
        await until("four run", () => worker.running === 4 && held.size === 4);
        if (stage.engine.name === "postgres") await (await stage.app()).queue(queue.name, after).stats();
        else await redeclare(stage, queue.name, after);
        for (const [input, release] of held) {
          // The next can start only when the last of the four has ended.
          freed = input === 3;
          release();
          await app.result(handles[input]!.id, { timeoutMs: 5000 });
        }
        await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 10_000 })));
        expect(most).toBe(1);
      },
    );

    test("of a queue and a rate together: a slot that becomes free is used as soon as the rate allows", async () => {
      const { app, queue } = await stage.queue({ concurrency: 1, rate: "50/1s" });
      const begun = gate();
      const go = gate();
      app.task("t", async (input: number) => {
        begun.open();
        if (input === 0) await go.opened;
        return monotonicUs();
      });
      const handles = await queue.enqueueMany([0, 1, 2].map((input) => ({ task: "t", input })));
      await app.work({ queues: [queue] });
      await begun.opened;
      go.open();
      const [first, , last] = await Promise.all(
        handles.map(({ id }) => app.result(id, { timeoutMs: 5000 }) as Promise<number>),
      );
      expect(last! - first!).toBeLessThan(1_000_000);
    });
  });
}

/** Declares a queue anew, past the apps: opening another app on an embedded database would end the leases of this one. */
async function redeclare(stage: Stage, name: string, options: QueueOptions): Promise<void> {
  const { defineQueue, queueRecord } = await import("../../../src/queue/definition.ts");
  const { sqlTaskStore } = await import("../../../src/store/sql-task-store.ts");
  const database = stage.engine.database();
  if (typeof database === "string") throw new Error("only for the embedded engine");
  await sqlTaskStore(await database.open(), stage.engine.schema).queueDeclare(
    queueRecord(defineQueue(name, options)),
  );
}
