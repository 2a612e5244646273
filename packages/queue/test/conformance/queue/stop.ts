import { describe, expect, test } from "vitest";
import { gate, until } from "../../gate.ts";
import type { Stage } from "../stage.ts";

/** How a worker goes in good order. */
export function stopCases(stage: Stage): void {
  describe("a stopping worker", () => {
    test("starts nothing more, lets what runs end, and gives back the rest in its place", async () => {
      const { app, queue } = await stage.queue();
      const begun = gate();
      const go = gate();
      const started: number[] = [];
      app.task("t", async (input: number) => {
        started.push(input);
        begun.open();
        await go.opened;
        return input;
      });
      const handles = await queue.enqueueMany(
        Array.from({ length: 20 }, (_, input) => ({ task: "t", input })),
      );
      const worker = await app.work({ queues: [queue], concurrency: 3 });
      await begun.opened;
      await until("three run", () => worker.running === 3);
      const stopping = worker.stop();
      go.open();
      await stopping;
      expect(started).toEqual([0, 1, 2]);
      expect(await queue.stats()).toMatchObject({ succeeded: 3, waiting: 17, running: 0 });
      expect(await app.get(handles[3]!.id)).toMatchObject({ attempt: 0, losses: 0 });
      await app.work({ queues: [queue], concurrency: 1 });
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 5000 })));
      expect(started).toEqual(Array.from({ length: 20 }, (_, i) => i));
    });

    test("gives back starts that were granted ahead, and they are not counted as attempts", async () => {
      const { app, queue } = await stage.queue({ rate: "20/1s" });
      const first = gate();
      app.task("t", () => first.open());
      const handles = await queue.enqueueMany(Array.from({ length: 10 }, () => ({ task: "t" })));
      const worker = await app.work({ queues: [queue], horizonMs: 400 });
      await first.opened;
      await worker.stop();
      const stats = await queue.stats();
      expect(stats.running).toBe(0);
      expect(stats.waiting + stats.succeeded).toBe(10);
      expect(stats.waiting).toBeGreaterThan(5);
      expect(await app.get(handles[9]!.id)).toMatchObject({ state: "waiting", attempt: 0, losses: 0 });
    });

    test("aborts what outlasts its drain, and others take it up at once", async () => {
      const { app, queue } = await stage.queue({ partition: { concurrency: 1 } });
      const begun = gate();
      const reasons: unknown[] = [];
      app.task("t", async (_, { attempt, signal }) => {
        if (attempt === 2) return "taken up";
        begun.open();
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        reasons.push((signal.reason as { code?: unknown }).code);
        return "too late";
      });
      const { id } = await queue.enqueue("t", 1, { partition: "p" });
      const worker = await app.work({ queues: [queue], drainMs: 30, leaseMs: 60_000 });
      await begun.opened;
      await app.work({ queues: [queue] });
      const stopped = performance.now();
      await worker.stop();
      expect(await app.result(id, { timeoutMs: 5000 })).toBe("taken up");
      expect(performance.now() - stopped).toBeLessThan(2000);
      expect(reasons).toEqual(["closed"]);
      expect(await app.get(id)).toMatchObject({
        state: "succeeded",
        attempt: 2,
        failures: 0,
        result: "taken up",
      });
    });

    test("lets a handler use its app while it drains: children are enqueued, steps recorded", async () => {
      const { app, queue } = await stage.queue();
      const begun = gate();
      const go = gate();
      app.task("parent", async (_, ctx) => {
        begun.open();
        await go.opened;
        await ctx.step("s", () => 1);
        await ctx.progress("nearly");
        return (await ctx.enqueue(queue.name, "child")).id;
      });
      const { id } = await queue.enqueue("parent");
      await app.work({ queues: [queue] });
      await begun.opened;
      const closing = app.close();
      go.open();
      await closing;
      const other = await stage.app();
      const record = await other.get(id);
      expect(record).toMatchObject({ state: "succeeded", error: undefined, progress: "nearly" });
      expect((await other.get(record!.result as string))?.state).toBe("waiting");
    });

    test("may be stopped twice, and while it is idle", async () => {
      const { app, queue } = await stage.queue();
      const worker = await app.work({ queues: [queue] });
      await Promise.all([worker.stop(), worker.stop()]);
      await worker.stop();
      expect(worker.running).toBe(0);
      const rows = await stage.sql("SELECT w.id FROM workers w");
      expect(rows).toEqual([]);
    });
  });
}
