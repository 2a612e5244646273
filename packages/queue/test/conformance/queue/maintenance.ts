import { describe, expect, test } from "vitest";
import { gate, pause, until } from "../../gate.ts";
import type { Stage } from "../stage.ts";

const first = "00000000-0000-0000-0000-000000000000";

/** What goes on in the background. */
export function maintenanceCases(stage: Stage): void {
  const prune = async (): Promise<void> => {
    const { schema } = stage.engine;
    await stage.engine.sql(`SELECT p.removed::int AS removed FROM "${schema}".prune('${first}', 10000, 1) p`);
    await stage.engine.sql(`SELECT "${schema}".prune_lanes(10000)::int AS removed`);
  };

  describe("pruning", () => {
    test("removes what ended and is past its retention, and nothing that lives or is still kept", async () => {
      const { app, queue } = await stage.queue({ retentionMs: 0, maxAttempts: 1 });
      const keeping = app.queue(stage.name(), { retentionMs: 60_000 });
      const begun = gate();
      const go = gate();
      app.task("good", (_, ctx) => ctx.step("s", () => 1));
      app.task("bad", () => {
        throw new Error("no");
      });
      app.task("long", async () => {
        begun.open();
        await go.opened;
        return "long";
      });
      await app.work({ queues: [queue, keeping] });
      const ended = await queue.enqueueMany(["good", "bad"].map((task) => ({ task, partition: "gone" })));
      const kept = await keeping.enqueue("good");
      for (const { id } of [...ended, kept]) await app.result(id, { timeoutMs: 5000 }).catch(() => undefined);
      const running = await queue.enqueue("long", 1, { partition: "live", idempotencyKey: "k" });
      await begun.opened;
      const scheduled = await queue.enqueue("good", 1, { delayMs: 60_000, partition: "later" });
      await queue.pause();
      const waiting = await queue.enqueue("good", 1, { partition: "waits" });
      await prune();
      expect(await Promise.all(ended.map(({ id }) => app.get(id)))).toEqual([undefined, undefined]);
      const states = await Promise.all(
        [kept, running, scheduled, waiting].map(async ({ id }) => (await app.get(id))?.state),
      );
      expect(states).toEqual(["succeeded", "running", "scheduled", "waiting"]);
      expect(await queue.enqueue("long", 1, { partition: "live", idempotencyKey: "k" })).toEqual({
        id: running.id,
        duplicate: true,
      });
      const lanes = await stage.sql(
        `SELECT l.partition FROM lanes l JOIN queues q ON q.id = l.queue_id WHERE q.name = '${queue.name}' ORDER BY 1`,
      );
      expect(lanes.map((row) => row["partition"])).toEqual(["later", "live", "waits"]);
      go.open();
      await queue.resume();
      expect(await app.result(running.id, { timeoutMs: 5000 })).toBe("long");
      const again = await queue.enqueue("good", 1, { partition: "gone" });
      expect(await app.result(again.id, { timeoutMs: 5000 })).toBe(1);
    });

    test("never touches the ledger of a window that is still open, of queues and of partitions", async () => {
      const { app, queue } = await stage.queue({ rate: "1000/3600s", burst: 100 });
      const paced = app.queue(stage.name(), { partition: { rate: "1000/864000s", burst: 100 } });
      app.task("t", () => 1);
      await app.work({ queues: [queue, paced] });
      await app.result((await queue.enqueue("t")).id, { timeoutMs: 5000 });
      await app.result((await paced.enqueue("t")).id, { timeoutMs: 5000 });
      const { schema } = stage.engine;
      // As if the starts had been 50 minutes and 8 days ago.
      for (const [name, seconds] of [
        [queue.name, 3000],
        [paced.name, 700_000],
      ] as const) {
        await stage.engine.sql(
          `UPDATE "${schema}".ledger SET claimed_us = claimed_us - ${seconds}000000 WHERE queue_id = (SELECT q.id FROM "${schema}".queues q WHERE q.name = '${name}')`,
        );
      }
      await prune();
      expect(await stage.starts(queue)).toHaveLength(1);
      expect(await stage.starts(paced)).toHaveLength(1);
    });
  });

  describe("a lease", () => {
    test("is renewed as long as the handler runs, however long that is", async () => {
      const { app, queue } = await stage.queue();
      const begun = gate();
      const go = gate();
      app.task("t", async (_, { attempt }) => {
        begun.open();
        await go.opened;
        return attempt;
      });
      await Promise.all([
        app.work({ queues: [queue], leaseMs: 1000 }),
        app.work({ queues: [queue], leaseMs: 1000 }),
      ]);
      const { id } = await queue.enqueue("t");
      await begun.opened;
      await pause(1600);
      expect((await app.get(id))?.state).toBe("running");
      go.open();
      expect(await app.result(id, { timeoutMs: 5000 })).toBe(1);
    });

    test("whose worker hangs ends: another worker's rescuer gives its tasks back, to the head of their partition", async () => {
      const { app, queue } = await stage.queue({ partition: { concurrency: 1 } });
      stage.tolerate(/lease/);
      const started: string[] = [];
      const begun = gate();
      app.task("t", async (input: string, { attempt, signal }) => {
        started.push(`${input} ${attempt}`);
        if (attempt > 1 || input !== "a") return input;
        begun.open();
        return new Promise((_resolve, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason as Error)),
        );
      });
      const handles = await queue.enqueueMany(
        ["a", "b", "c"].map((input) => ({ task: "t", input, partition: "p" })),
      );
      await app.work({ queues: [queue], leaseMs: 60_000 });
      await begun.opened;
      await stage.engine.sql(`UPDATE "${stage.engine.schema}".workers SET until_us = 1`);
      const recovered = gate();
      app.on("recovered", () => recovered.open());
      await app.work({ queues: [queue], leaseMs: 1000 });
      await recovered.opened;
      await Promise.all(handles.map(({ id }) => app.result(id, { timeoutMs: 5000 })));
      expect(started.slice(0, 2)).toEqual(["a 1", "a 2"]);
      expect(started).toEqual(["a 1", "a 2", "b 1", "c 1"]);
    });

    test("lost too often ends the task: what kills its worker does not come back for ever", async () => {
      const { app, queue } = await stage.queue({ maxLosses: 2 });
      const { schema } = stage.engine;
      const { id } = await queue.enqueue("t");
      let starts = 0;
      stage.tolerate(/lease/);
      app.task("t", async (_, { signal }) => {
        starts++;
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      });
      for (const loss of [1, 2]) {
        await app.work({ queues: [queue], drainMs: 0 });
        await until("it runs", () => starts === loss);
        await stage.engine.sql(`DELETE FROM "${schema}".workers`);
        await stage.engine.sql(`SELECT "${schema}".worker_rescue(false)::int AS n`);
      }
      await expect(app.result(id, { timeoutMs: 5000 })).rejects.toMatchObject({ code: "task_failed" });
      expect(await app.get(id)).toMatchObject({
        state: "dead",
        losses: 2,
        failures: 0,
        attempt: 2,
        error: { code: "lease_lost" },
      });
    });
  });

  describe("a worker of several queues", () => {
    test("serves the quiet one though the other is busy", async () => {
      const { app, queue: busy } = await stage.queue();
      const quiet = app.queue(stage.name());
      let done = 0;
      const under = gate();
      app.task("t", async () => {
        await pause(1);
        if (++done === 50) under.open();
      });
      await busy.enqueueMany(Array.from({ length: 3000 }, () => ({ task: "t" })));
      await app.work({ queues: [busy, quiet], concurrency: 5, drainMs: 0 });
      await under.opened;
      const { id } = await quiet.enqueue("t");
      await app.result(id, { timeoutMs: 5000 });
      expect(done).toBeLessThan(1500);
    });

    test("sleeps beside a task that is due in two months, and still does what comes", async () => {
      const { app, queue } = await stage.queue();
      app.task("t", (input) => input);
      await queue.enqueue("t", 0, { delayMs: 60 * 86_400_000 });
      await app.work({ queues: [queue] });
      const before = process.cpuUsage();
      await pause(300);
      const { user, system } = process.cpuUsage(before);
      expect((user + system) / 1000).toBeLessThan(250);
      expect(await app.result((await queue.enqueue("t", 1)).id, { timeoutMs: 5000 })).toBe(1);
    });
  });
}
