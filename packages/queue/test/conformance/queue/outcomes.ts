import { describe, expect, test } from "vitest";
import type { AttemptRef, TaskError } from "../../../src/index.ts";
import { gate, pause } from "../../gate.ts";
import type { Stage } from "../stage.ts";

const untouchable = new Proxy(
  {},
  {
    get() {
      throw new Error("do not touch");
    },
    getPrototypeOf() {
      throw new Error("do not touch");
    },
    has() {
      throw new Error("do not touch");
    },
  },
);
const cyclic: { self?: unknown } = {};
cyclic.self = cyclic;

/** What becomes of a task. */
export function outcomeCases(stage: Stage): void {
  describe("a result", () => {
    test.each<[string, unknown]>([
      ["an object", { a: [1, "two", null, true] }],
      ["nothing", undefined],
      ["null", null],
      ["zero", 0],
      ["false", false],
      ["an empty text", ""],
    ])("is what the handler returned: %s", async (_, value) => {
      const { app, queue } = await stage.queue();
      app.task("later", async () => value);
      app.task("now", () => value);
      await app.work({ queues: [queue] });
      for (const task of ["later", "now"]) {
        const { id } = await queue.enqueue(task);
        expect(await app.result(id, { timeoutMs: 5000 })).toEqual(value);
        expect(await app.get(id)).toMatchObject({
          state: "succeeded",
          attempt: 1,
          failures: 0,
          error: undefined,
        });
        expect((await app.get(id))!.result).toEqual(value);
      }
    });

    test("can be waited for by many, before and after the end", async () => {
      const { app, queue } = await stage.queue();
      const go = gate();
      app.task("t", async () => {
        await go.opened;
        return 42;
      });
      const { id } = await queue.enqueue("t");
      await app.work({ queues: [queue] });
      const waiting = Promise.all(Array.from({ length: 5 }, () => app.result(id)));
      go.open();
      expect(await waiting).toEqual([42, 42, 42, 42, 42]);
      expect(await app.result(id)).toBe(42);
    });

    test("that does not come in time is a timeout, which says where the task stands", async () => {
      const { app, queue } = await stage.queue();
      const { id } = await queue.enqueue("t");
      const waited = app.result(id, { timeoutMs: 50 });
      await expect(waited).rejects.toMatchObject({
        code: "timeout",
        message: expect.stringMatching(/50 ms.*waiting/),
      });
      await expect(app.result(id, { timeoutMs: 0 })).rejects.toMatchObject({ code: "timeout" });
    });

    test("need not be waited for any longer once the signal aborts", async () => {
      const { app, queue } = await stage.queue();
      const { id } = await queue.enqueue("t");
      const controller = new AbortController();
      const waited = app.result(id, { signal: controller.signal });
      const reason = new Error("never mind");
      setImmediate(() => controller.abort(reason));
      await expect(waited).rejects.toBe(reason);
      await expect(app.result(id, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    });

    test.each<[string, () => unknown, string]>([
      ["a cycle", () => cyclic, "result_invalid"],
      ["a bigint", () => 1n, "result_invalid"],
      ["a function", () => () => 1, "result_invalid"],
      ["NUL", () => "a\0", "result_invalid"],
      ["half a surrogate pair", () => ["\ud800"], "result_invalid"],
      ["NaN", () => Number.NaN, "result_invalid"],
      ["more than 1 MiB", () => "x".repeat(1_048_577), "result_too_large"],
      ["100 MB", () => "x".repeat(100_000_000), "result_too_large"],
    ])(
      "that cannot be stored (%s) ends the task with an error that says so, at its first attempt",
      async (_, make, code) => {
        const { app, queue } = await stage.queue();
        app.task("bad", make);
        app.task("good", () => "fine");
        await app.work({ queues: [queue] });
        const { id } = await queue.enqueue("bad");
        const failed = app.result(id, { timeoutMs: 8000 });
        await expect(failed).rejects.toMatchObject({ code: "task_failed", details: { error: { code } } });
        expect(await app.get(id)).toMatchObject({
          state: "dead",
          attempt: 1,
          failures: 1,
          result: undefined,
          error: { code },
        });
        const next = await queue.enqueue("good");
        expect(await app.result(next.id, { timeoutMs: 5000 })).toBe("fine");
      },
    );
  });
  failureCases(stage);
  eventCases(stage);
}

function failureCases(stage: Stage): void {
  describe("a failing task", () => {
    test("runs again after its waits until its attempts are used up, and is dead then", async () => {
      const backoff = { minMs: 40, factor: 2, maxMs: 60, jitter: 0 };
      const { app, queue } = await stage.queue({ maxAttempts: 4, backoff });
      const at: number[] = [];
      app.task("t", (_, { attempt }) => {
        at.push(performance.now());
        throw Object.assign(new Error(`no ${attempt}`), { code: "E_NO" });
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      const failed = app.result(id, { timeoutMs: 8000 });
      await expect(failed).rejects.toMatchObject({
        code: "task_failed",
        message: expect.stringContaining("no 4"),
      });
      const gaps = at.slice(1).map((time, i) => time - at[i]!);
      for (const [i, least] of [40, 60, 60].entries()) expect(gaps[i]).toBeGreaterThanOrEqual(least - 1);
      const record = await app.get(id);
      expect(record).toMatchObject({
        state: "dead",
        attempt: 4,
        failures: 4,
        error: { code: "E_NO", message: "no 4" },
      });
      expect(record!.error!.stack).toContain("no 4");
      expect(record!.finishedAt).toBeGreaterThanOrEqual(record!.startedAt!);
      expect((await queue.stats()).dead).toBe(1);
    });

    test("may have its own number of attempts: of the enqueue, else of the task, else of the queue", async () => {
      const { app, queue } = await stage.queue({ maxAttempts: 3, backoff: { minMs: 1, maxMs: 1 } });
      const fail = (): never => {
        throw new Error("no");
      };
      app.task("own", fail, { maxAttempts: 2 });
      app.task("plain", fail);
      await app.work({ queues: [queue] });
      const handles = await queue.enqueueMany([
        { task: "own", maxAttempts: 1 },
        { task: "own" },
        { task: "plain" },
      ]);
      await Promise.allSettled(handles.map(({ id }) => app.result(id, { timeoutMs: 8000 })));
      const attempts = await Promise.all(handles.map(async ({ id }) => (await app.get(id))?.attempt));
      expect(attempts).toEqual([1, 2, 3]);
    });

    test("that is dead can be made to run again, with a fresh budget and the steps it has recorded", async () => {
      const { app, queue } = await stage.queue({ maxAttempts: 2, backoff: { minMs: 1, maxMs: 1 } });
      let healthy = false;
      app.task("t", () => {
        if (!healthy) throw new Error("no");
        return "yes";
      });
      await app.work({ queues: [queue] });
      const { id } = await queue.enqueue("t");
      await expect(app.result(id, { timeoutMs: 5000 })).rejects.toMatchObject({ code: "task_failed" });
      expect(await app.retry(id)).toBe("waiting");
      await expect(app.result(id, { timeoutMs: 5000 })).rejects.toMatchObject({ code: "task_failed" });
      expect(await app.get(id)).toMatchObject({ attempt: 4, failures: 2 });
      healthy = true;
      expect(await app.retry(id)).toBe("waiting");
      expect(await app.result(id, { timeoutMs: 5000 })).toBe("yes");
      expect(await app.retry(id)).toBe("succeeded");
      expect(await app.get(id)).toMatchObject({ attempt: 5, state: "succeeded" });
    });

    test.each<[string, () => unknown]>([
      ["an untouchable proxy", () => untouchable],
      [
        "an error whose message is a number",
        () => Object.defineProperty(new Error("x"), "message", { value: 42 }),
      ],
      [
        "an error whose stack is a list",
        () => Object.defineProperty(new Error("x"), "stack", { value: [1] }),
      ],
      ["nothing", () => undefined],
      ["NUL and half a surrogate pair", () => new Error("a\0b\ud800")],
      ["fifty megabytes", () => new Error("x".repeat(50_000_000))],
      ["an object without a prototype", () => Object.create(null)],
    ])("is dead with an error that could be stored, and nothing else suffers: %s", async (_, make) => {
      const { app, queue } = await stage.queue({ maxAttempts: 1 });
      app.task("bad", () => {
        throw make();
      });
      app.task("bad later", async () => {
        throw make();
      });
      app.task("good", () => "fine");
      await app.work({ queues: [queue] });
      const handles = await queue.enqueueMany([{ task: "bad" }, { task: "bad later" }, { task: "good" }]);
      expect(await app.result(handles[2]!.id, { timeoutMs: 5000 })).toBe("fine");
      for (const { id } of handles.slice(0, 2)) {
        await expect(app.result(id, { timeoutMs: 5000 })).rejects.toMatchObject({ code: "task_failed" });
        expect(typeof (await app.get(id))?.error?.message).toBe("string");
      }
    });

    test("that takes longer than its time is told so, has failed, and runs again", async () => {
      const { app, queue } = await stage.queue({ backoff: { minMs: 1, maxMs: 1 } });
      const reasons: unknown[] = [];
      app.task(
        "t",
        async (_, { attempt, signal }) => {
          if (attempt === 2) return "in time";
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
          reasons.push((signal.reason as { code?: unknown }).code);
          await pause(5);
          return "too late";
        },
        { timeoutMs: 30 },
      );
      await app.work({ queues: [queue] });
      const failures: TaskError[] = [];
      app.on("failure", ({ error }) => failures.push(error));
      const { id } = await queue.enqueue("t");
      expect(await app.result(id, { timeoutMs: 5000 })).toBe("in time");
      expect(reasons).toEqual(["timeout"]);
      expect(failures).toMatchObject([{ code: "timeout", message: expect.stringContaining("30 ms") }]);
      expect(await app.get(id)).toMatchObject({ attempt: 2, failures: 1 });
    });
  });
}

function eventCases(stage: Stage): void {
  describe("events", () => {
    test("tell of each attempt: its start, and how it ended", async () => {
      const { app, queue } = await stage.queue({ maxAttempts: 2, backoff: { minMs: 1, maxMs: 1 } });
      const told: string[] = [];
      const say = (event: string, { name, attempt }: AttemptRef): void =>
        void told.push(`${event} ${name} ${attempt}`);
      app.on("start", ({ task }) => say("start", task));
      app.on("success", ({ task }) => say("success", task));
      app.on("failure", ({ task, retryInMs }) => {
        say("failure", task);
        expect(retryInMs).toBeLessThanOrEqual(1);
      });
      app.on("dead", ({ task, error }) => {
        say("dead", task);
        expect(error.message).toBe("never");
      });
      app.on("log", ({ task, message, fields }) => {
        say(`log ${message}`, task);
        expect(fields).toEqual({ a: 1 });
      });
      app.task("never", () => {
        throw new Error("never");
      });
      app.task("talks", (_, ctx) => ctx.log("hello", { a: 1 }));
      app.task("well", (_, { attempt }) => {
        if (attempt === 1) throw new Error("once");
      });
      await app.work({ queues: [queue], concurrency: 1 });
      for (const task of ["well", "never", "talks"]) {
        const { id } = await queue.enqueue(task);
        await app.result(id, { timeoutMs: 5000 }).catch(() => undefined);
      }
      expect(told).toEqual([
        "start well 1",
        "failure well 1",
        "start well 2",
        "success well 2",
        "start never 1",
        "failure never 1",
        "start never 2",
        "dead never 2",
        "start talks 1",
        "log hello talks 1",
        "success talks 1",
      ]);
    });

    test("stop when the listener is taken off", async () => {
      const { app, queue } = await stage.queue();
      let count = 0;
      const off = app.on("start", () => count++);
      app.task("t", () => 1);
      await app.work({ queues: [queue] });
      await app.result((await queue.enqueue("t")).id);
      off();
      await app.result((await queue.enqueue("t")).id);
      expect(count).toBe(1);
    });
  });
}
