import { isSluiceError } from "@sluice/core";
import { describe, expect, test } from "vitest";
import { gate, pause, until } from "../../gate.ts";
import type { Stage } from "../stage.ts";

/** What people do to tasks and queues. */
export function controlCases(stage: Stage): void {
  describe("cancel", () => {
    test("ends a waiting and a scheduled task at once, and they never start", async () => {
      const { app, queue } = await stage.queue();
      const waiting = await queue.enqueue("t", 1, { partition: "p" });
      const behind = await queue.enqueue("t", 2, { partition: "p" });
      const scheduled = await queue.enqueue("t", 3, { delayMs: 20 });
      for (const { id } of [waiting, scheduled]) {
        expect(await app.cancel(id)).toBe("cancelled");
        expect(await app.cancel(id)).toBe("cancelled");
        await expect(app.result(id)).rejects.toMatchObject({ code: "task_cancelled" });
        expect(await app.get(id)).toMatchObject({ state: "cancelled", attempt: 0, startedAt: undefined });
      }
      const inputs: unknown[] = [];
      app.task("t", (input) => void inputs.push(input));
      await app.work({ queues: [queue], pollMs: 50 });
      await app.result(behind.id, { timeoutMs: 5000 });
      await pause(60);
      expect(inputs).toEqual([2]);
      expect(await queue.stats()).toMatchObject({ cancelled: 2, succeeded: 1, waiting: 0, scheduled: 0 });
    });

    test("of the only waiting task leaves nothing to claim", async () => {
      const { app, queue } = await stage.queue({ partition: { concurrency: 1 } });
      const { id } = await queue.enqueue("t", 1, { partition: "p" });
      await app.cancel(id);
      app.task("t", (input) => input);
      await app.work({ queues: [queue] });
      const next = await queue.enqueue("t", 2, { partition: "p" });
      expect(await app.result(next.id, { timeoutMs: 5000 })).toBe(2);
    });

    test("aborts a running one, which ends as cancelled and does not run again", async () => {
      const { app, queue } = await stage.queue();
      const begun = gate();
      let starts = 0;
      app.task("t", async (_, { signal }) => {
        starts++;
        begun.open();
        await new Promise((_resolve, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason as Error)),
        );
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      await begun.opened;
      expect(await app.cancel(id)).toBe("running");
      await expect(app.result(id, { timeoutMs: 5000 })).rejects.toMatchObject({ code: "task_cancelled" });
      expect(await app.get(id)).toMatchObject({ state: "cancelled", attempt: 1 });
      expect(starts).toBe(1);
    });

    test("comes too late for a handler that succeeds all the same", async () => {
      const { app, queue } = await stage.queue();
      const begun = gate();
      app.task("t", async (_, { signal }) => {
        begun.open();
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        return "done";
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      await begun.opened;
      await app.cancel(id);
      expect(await app.result(id, { timeoutMs: 5000 })).toBe("done");
      expect(await app.cancel(id)).toBe("succeeded");
    });

    test("that crosses with a failure ends the task: it is not tried again", async () => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      const begun = gate();
      const go = gate();
      let starts = 0;
      app.task("t", async () => {
        starts++;
        begun.open();
        await go.opened;
        throw new Error("boom");
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      await begun.opened;
      // As task_cancel does to a running one, but the message to the worker is still on its way.
      await stage.engine.sql(
        `UPDATE "${stage.engine.schema}".tasks SET cancelling = true WHERE id = '${id}'`,
      );
      go.open();
      await expect(app.result(id, { timeoutMs: 5000 })).rejects.toMatchObject({ code: "task_cancelled" });
      expect(starts).toBe(1);
    });

    test("of a task that is granted and not yet started keeps it from starting", async () => {
      const { app, queue } = await stage.queue({ rate: "5/2s" });
      const inputs: unknown[] = [];
      app.task("t", (input) => void inputs.push(input));
      const handles = await queue.enqueueMany([1, 2].map((input) => ({ task: "t", input })));
      await app.work({ queues: [queue], horizonMs: 2000 });
      await app.result(handles[0]!.id, { timeoutMs: 5000 });
      const granted = async (): Promise<boolean> => (await app.get(handles[1]!.id))?.state === "running";
      await until("the second is granted", granted, 5000);
      await app.cancel(handles[1]!.id);
      await expect(app.result(handles[1]!.id, { timeoutMs: 5000 })).rejects.toMatchObject({
        code: "task_cancelled",
      });
      expect(inputs).toEqual([1]);
    });

    test("can be taken back by retry", async () => {
      const { app, queue } = await stage.queue();
      app.task("t", () => "ran");
      const { id } = await queue.enqueue("t");
      await app.cancel(id);
      expect(await app.retry(id)).toBe("waiting");
      await app.work({ queues: [queue] });
      expect(await app.result(id, { timeoutMs: 5000 })).toBe("ran");
    });
  });
  queueCases(stage);
}

function queueCases(stage: Stage): void {
  describe("a queue", () => {
    test("that is paused starts nothing, whatever is enqueued or falls due, until it is resumed", async () => {
      const { app, queue } = await stage.queue();
      let starts = 0;
      app.task("t", () => ++starts);
      await queue.pause();
      await app.work({ queues: [queue], pollMs: 50 });
      const handles = await queue.enqueueMany([{ task: "t" }, { task: "t", delayMs: 10 }]);
      await pause(150);
      expect(starts).toBe(0);
      await queue.resume();
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 5000 })));
      expect(starts).toBe(2);
    });

    test("lets what runs go on when it is paused", async () => {
      const { app, queue } = await stage.queue();
      const begun = gate();
      const go = gate();
      app.task("t", async () => {
        begun.open();
        await go.opened;
        return "done";
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      await begun.opened;
      await queue.pause();
      go.open();
      expect(await app.result(id, { timeoutMs: 5000 })).toBe("done");
      await queue.resume();
    });

    test("counts its tasks in each state, and every one in one of them", async () => {
      const { app, queue } = await stage.queue({ maxAttempts: 1 });
      const begun = gate();
      const go = gate();
      app.task("good", () => 1);
      app.task("bad", () => {
        throw new Error("no");
      });
      app.task("long", async () => {
        begun.open();
        await go.opened;
      });
      const handles = await queue.enqueueMany(["good", "good", "bad", "long"].map((task) => ({ task })));
      const worker = await app.work({ queues: [queue] });
      await begun.opened;
      await Promise.allSettled(handles.slice(0, 3).map(({ id }) => app.result(id, { timeoutMs: 5000 })));
      await queue.pause();
      const waiting = await queue.enqueue("good");
      await queue.enqueue("good", 1, { delayMs: 60_000 });
      await app.cancel((await queue.enqueue("good")).id);
      expect(await queue.stats()).toEqual({
        waiting: 1,
        running: 1,
        scheduled: 1,
        succeeded: 2,
        dead: 1,
        cancelled: 1,
      });
      expect(worker.running).toBe(1);
      go.open();
      await queue.resume();
      await app.result(waiting.id, { timeoutMs: 5000 });
    });

    test("whose task has no handler here defers it, without an attempt, until a worker has one", async () => {
      const { app, queue } = await stage.queue();
      stage.tolerate(/no handler is declared for task unheard-of/);
      app.task("known", () => "fine");
      await app.work({ queues: [queue], pollMs: 50 });
      const { id } = await queue.enqueue("unheard-of");
      const other = await queue.enqueue("known");
      expect(await app.result(other.id, { timeoutMs: 5000 })).toBe("fine");
      await until("it is deferred", async () => (await app.get(id))?.state === "scheduled");
      expect(await app.get(id)).toMatchObject({ attempt: 0, failures: 0, error: undefined });
      expect(stage.errors.some((error) => isSluiceError(error, "no_handler"))).toBe(true);
      app.task("unheard-of", (_, { attempt }) => attempt);
      await stage.engine.sql(`UPDATE "${stage.engine.schema}".timers SET due_us = 1 WHERE task_id = '${id}'`);
      expect(await app.result(id, { timeoutMs: 5000 })).toBe(1);
    });
  });

  describe("a declaration", () => {
    test("is found again by its name, may be repeated, and may not differ", async () => {
      const { app, queue } = await stage.queue({ rate: "2/1s" });
      expect(app.queue(queue.name)).toBe(queue);
      expect(app.queue(queue.name, { rate: { limit: 2, periodMs: 1000 } })).toBe(queue);
      expect(() => app.queue(queue.name, { rate: "3/1s" })).toThrow(
        expect.objectContaining({ code: "already_declared" }),
      );
      app.task("t", () => 1);
      expect(() => app.task("t", () => 2)).toThrow(expect.objectContaining({ code: "already_declared" }));
      expect(() => app.task("u", 5 as never)).toThrow(expect.objectContaining({ code: "invalid_option" }));
      expect(() => app.task("u", () => 1, { timeoutMs: 0 })).toThrow(
        /task "u": option timeoutMs: expected .*, got 0/,
      );
    });

    test.each<[string, object, string]>([
      ["no slots", { concurrency: 0 }, "concurrency"],
      ["a lease too short", { leaseMs: 999 }, "leaseMs"],
      ["a lease too long", { leaseMs: 86_400_001 }, "leaseMs"],
      ["a horizon too short", { horizonMs: 19 }, "horizonMs"],
      ["a horizon too long", { horizonMs: 10_001 }, "horizonMs"],
      ["polls too close", { pollMs: 49 }, "pollMs"],
      ["a negative drain", { drainMs: -1 }, "drainMs"],
      ["an unknown option", { concurency: 1 }, "concurency"],
      ["queues that are none", { queues: [5] }, "queues"],
    ])("of a worker with %s is refused by name", async (_, options, option) => {
      const { app } = await stage.queue();
      const refused = app.work(options);
      await expect(refused).rejects.toMatchObject({
        code: "invalid_option",
        message: expect.stringContaining(option),
      });
    });

    test("of a worker for a queue that is not declared here is refused", async () => {
      const app = await stage.app();
      await expect(app.work({ queues: ["nowhere"] })).rejects.toMatchObject({ code: "queue_not_found" });
    });
  });

  describe("a closed app", () => {
    test("takes no more calls, tells whoever still waits, and closes twice as well as once", async () => {
      const { app, queue } = await stage.queue();
      const { id } = await queue.enqueue("t");
      const waiting = app.result(id);
      const told = expect(waiting).rejects.toMatchObject({ code: "closed" });
      await Promise.all([app.close(), app.close()]);
      await told;
      await expect(queue.enqueue("t")).rejects.toMatchObject({ code: "closed" });
      await expect(app.get(id)).rejects.toMatchObject({ code: "closed" });
      await expect(app.work()).rejects.toMatchObject({ code: "closed" });
      expect(() => app.queue("x")).toThrow(expect.objectContaining({ code: "closed" }));
    });
  });
}
