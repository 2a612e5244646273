import { describe, expect, test } from "vitest";
import type { TaskContext } from "../../../src/index.ts";
import { gate } from "../../gate.ts";
import type { Stage } from "../stage.ts";

/** What a handler has besides its input. */
export function stepCases(stage: Stage): void {
  describe("steps", () => {
    test("and the rest of the context work when taken apart from it", async () => {
      const { app, queue } = await stage.queue();
      const told: string[] = [];
      app.on("log", ({ message }) => told.push(message));
      app.task("t", async (_, { step, progress, log, attempt }) => {
        await progress(1);
        log("here");
        return await step("one", () => attempt);
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      expect(await app.result(id)).toBe(1);
      expect(told).toEqual(["here"]);
    });

    test("run once in a task's life: a later attempt gets the stored result back, the very same", async () => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      const bodies: string[] = [];
      const results: unknown[] = [];
      const value = { when: 1.5, texts: ["\\u0000", "😀", '"'], none: null };
      app.task("t", async (_, ctx) => {
        const first = await ctx.step("first", () => {
          bodies.push("first");
          return { ...value, dropped: undefined };
        });
        const nothing = await ctx.step("nothing", async () => {
          bodies.push("nothing");
        });
        if (ctx.attempt === 1) throw new Error("between");
        const last = await ctx.step("last", () => {
          bodies.push("last");
          return 7;
        });
        if (ctx.attempt === 2) throw new Error("at the end");
        results.push(first, nothing, last);
        return last;
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      expect(await app.result(id, { timeoutMs: 5000 })).toBe(7);
      expect(bodies).toEqual(["first", "nothing", "last"]);
      expect(results).toEqual([value, undefined, 7]);
      expect(JSON.stringify(results[0])).toBe(JSON.stringify(value));
      expect((await app.get(id))?.attempt).toBe(3);
    });

    test("the first attempt gets the stored form too, so that all attempts see the same", async () => {
      const { app, queue } = await stage.queue();
      app.task("t", (_, ctx) => ctx.step("date", () => new Date(0)));
      await app.work({ queues: [queue] });
      expect(await app.result((await queue.enqueue("t")).id)).toBe("1970-01-01T00:00:00.000Z");
    });

    test("that throw are not kept, and run again", async () => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      let bodies = 0;
      app.task("t", (_, ctx) =>
        ctx.step("flaky", () => {
          if (++bodies < 3) throw new Error("no");
          return bodies;
        }),
      );
      await app.work({ queues: [queue] });
      expect(await app.result((await queue.enqueue("t")).id, { timeoutMs: 5000 })).toBe(3);
    });

    test.each<[string, (ctx: TaskContext) => Promise<unknown>, string]>([
      [
        "a name used twice",
        async (ctx) => [await ctx.step("a", () => 1), await ctx.step("a", () => 2)],
        "step_mismatch",
      ],
      ["an empty name", (ctx) => ctx.step("", () => 1), "invalid_key"],
      ["a name with NUL", (ctx) => ctx.step("a\0", () => 1), "invalid_key"],
      ["a result that cannot be stored", (ctx) => ctx.step("a", () => 1n), "result_invalid"],
      ["a result that is too large", (ctx) => ctx.step("a", () => "x".repeat(1_048_577)), "result_too_large"],
    ])("%s ends the task with an error that says so", async (_, body, code) => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      app.task("t", (_input, ctx) => body(ctx));
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      await expect(app.result(id, { timeoutMs: 5000 })).rejects.toMatchObject({
        details: { error: { code } },
      });
    });

    test("no step is recorded once the lease is gone", async () => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      stage.tolerate(/lease/);
      const begun = gate();
      const go = gate();
      const seen: unknown[] = [];
      app.task("t", async (_, ctx) => {
        if (ctx.attempt > 1) return ctx.step("a", () => "second");
        begun.open();
        await go.opened;
        await ctx.step("a", () => "first").catch((error: { code?: unknown }) => seen.push(error.code));
        await ctx.progress(1).catch((error: { code?: unknown }) => seen.push(error.code));
        return "late";
      });
      const stale = gate();
      app.on("stale", () => stale.open());
      await app.work({ queues: [queue], leaseMs: 1000 });
      const { id } = await queue.enqueue("t");
      await begun.opened;
      // As if the lease had run out and a rescuer had been here.
      const { schema } = stage.engine;
      await stage.engine.sql(`DELETE FROM "${schema}".workers`);
      await stage.engine.sql(`SELECT count(*)::int AS n FROM (SELECT "${schema}".worker_rescue(false)) r`);
      go.open();
      expect(await app.result(id, { timeoutMs: 8000 })).toBe("second");
      await stale.opened;
      expect(seen).toEqual(["lease_lost", "lease_lost"]);
      expect(await app.get(id)).toMatchObject({
        state: "succeeded",
        result: "second",
        attempt: 2,
        losses: 1,
      });
    });
  });

  describe("the context", () => {
    test("says which task, attempt and fence this is", async () => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      const fences: number[] = [];
      app.task("t", (input, ctx) => {
        fences.push(ctx.fence);
        if (ctx.attempt === 1) throw new Error("no");
        const { id, queue: name, partition, task, attempt, startAtUs, signal } = ctx;
        return {
          input,
          id,
          name,
          partition,
          task,
          attempt,
          start: startAtUs / 1000,
          aborted: signal.aborted,
        };
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t", "in", { partition: "p" });
      const result = (await app.result(id, { timeoutMs: 5000 })) as { start: number };
      expect(result).toMatchObject({
        input: "in",
        id,
        name: queue.name,
        partition: "p",
        task: "t",
        attempt: 2,
        aborted: false,
      });
      expect(result.start).toBe((await app.get(id))!.startedAt);
      expect(fences[1]).toBeGreaterThan(fences[0]!);
    });

    test("keeps progress, the last one said", async () => {
      const { app, queue } = await stage.queue();
      const said = gate();
      const go = gate();
      app.task("t", async (_, ctx) => {
        await ctx.progress({ done: 1 });
        await ctx.progress({ done: 2 });
        said.open();
        await go.opened;
        await expect(ctx.progress(1n)).rejects.toMatchObject({ code: "payload_invalid" });
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      await said.opened;
      expect(await app.get(id)).toMatchObject({ state: "running", attempt: 1, progress: { done: 2 } });
      expect((await app.get(id))?.fence).toBeGreaterThan(0);
      go.open();
      await app.result(id, { timeoutMs: 5000 });
      expect((await app.get(id))?.progress).toEqual({ done: 2 });
    });

    test("enqueues a child once, however many attempts ask for it", async () => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      const ids: string[] = [];
      app.task("child", (input) => input);
      app.task("parent", async (_, ctx) => {
        for (const input of ["x", "y"]) ids.push((await ctx.enqueue(queue.name, "child", input)).id);
        if (ctx.attempt < 3) throw new Error("again");
      });
      await app.work({ queues: [queue] });
      await app.result((await queue.enqueue("parent")).id, { timeoutMs: 5000 });
      expect(ids).toEqual([...ids.slice(0, 2), ...ids.slice(0, 2), ...ids.slice(0, 2)]);
      expect(await app.result(ids[0]!, { timeoutMs: 5000 })).toBe("x");
      expect(await app.result(ids[1]!, { timeoutMs: 5000 })).toBe("y");
      expect((await queue.stats()).succeeded).toBe(3);
    });
  });
}
