import { describe, expect, test } from "vitest";
import type { EnqueueOptions } from "../../../src/index.ts";
import type { Stage } from "../stage.ts";

const odd = [
  "NULL",
  "null",
  "a,b",
  "{a}",
  '"quoted"',
  "back\\slash",
  "it's; DROP TABLE tasks; --",
  "$1",
  "ünïcode 😀",
  "\\u0000",
  "  ",
  "__proto__",
  "../../etc/passwd",
];

const cyclic: { self?: unknown } = {};
cyclic.self = cyclic;

/** What is handed in: odd but fine, or refused with a name for what is wrong. */
export function inputCases(stage: Stage): void {
  describe("input", () => {
    test("odd texts come through as they are, as names, partitions, keys, inputs and results", async () => {
      const { app, queue } = await stage.queue();
      for (const text of odd) app.task(text, (input) => ({ got: input }));
      const handles = await queue.enqueueMany(
        odd.map((text) => ({ task: text, input: text, partition: text, idempotencyKey: text })),
      );
      const single = await queue.enqueue(odd[3]!, { [odd[4]!]: odd }, { partition: odd[5]! });
      await app.work({ queues: [queue] });
      for (const [i, { id }] of handles.entries()) {
        expect(await app.result(id)).toEqual({ got: odd[i] });
        expect(await app.get(id)).toMatchObject({ partition: odd[i], task: odd[i], input: odd[i] });
      }
      expect(await app.result(single.id)).toEqual({ got: { [odd[4]!]: odd } });
    });

    test.each<[string, unknown, string]>([
      ["NUL", "a\0", "payload_invalid"],
      ["half a surrogate pair", { a: "\ud800" }, "payload_invalid"],
      ["a cycle", cyclic, "payload_invalid"],
      ["a bigint", 1n, "payload_invalid"],
      ["NaN", [Number.NaN], "payload_invalid"],
      ["more than 1 MiB", "x".repeat(1_048_577), "payload_too_large"],
    ])("an input with %s is refused and nothing is stored", async (_, input, code) => {
      const { queue } = await stage.queue();
      await expect(queue.enqueue("t", input)).rejects.toMatchObject({ code });
      expect((await queue.stats()).waiting).toBe(0);
    });

    test.each<[string, unknown, string, RegExp]>([
      ["an empty partition", { partition: "" }, "invalid_key", /name of a partition is a string of 1 to 200/],
      ["a partition with NUL", { partition: "a\0" }, "invalid_key", /partition/],
      ["a partition with a line break", { partition: "a\nb" }, "invalid_key", /partition/],
      [
        "a partition of 201 characters",
        { partition: "x".repeat(201) },
        "invalid_key",
        /name of a partition is a string of 1 to 200/,
      ],
      ["a negative delay", { delayMs: -1 }, "invalid_option", /option delayMs: expected .*, got -1/],
      ["an endless delay", { delayMs: Number.POSITIVE_INFINITY }, "invalid_option", /delayMs/],
      [
        "an invalid date",
        { runAt: new Date(Number.NaN) },
        "invalid_option",
        /option runAt: expected a valid Date/,
      ],
      ["a date as text", { runAt: "tomorrow" }, "invalid_option", /runAt/],
      [
        "delay and date",
        { delayMs: 1, runAt: new Date() },
        "invalid_option",
        /delayMs and runAt: expected one of them/,
      ],
      ["an empty key", { idempotencyKey: "" }, "invalid_option", /idempotencyKey/],
      ["a key with half a surrogate pair", { idempotencyKey: "\udfff" }, "invalid_option", /idempotencyKey/],
      [
        "a key that is kept too short",
        { idempotencyKey: "k", idempotencyKeepMs: 1 },
        "invalid_option",
        /idempotencyKeepMs/,
      ],
      [
        "no attempts",
        { maxAttempts: 0 },
        "invalid_option",
        /option maxAttempts: expected a whole number from 1 to 1000000, got 0/,
      ],
      ["an unknown option", { prioritty: 1 }, "invalid_option", /prioritty/],
      ["no client", { client: {} }, "invalid_option", /client/],
    ])("%s is refused by name and nothing is stored", async (_, options, code, message) => {
      const { queue } = await stage.queue();
      const refused = queue.enqueue("t", 1, options as EnqueueOptions);
      await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
      expect((await queue.stats()).waiting).toBe(0);
    });

    test.each(["", "a\0b", "x".repeat(201), "tab\t", 5, undefined, null])(
      "the task name %j is refused",
      async (name) => {
        const { app, queue } = await stage.queue();
        await expect(queue.enqueue(name as string)).rejects.toMatchObject({ code: "invalid_key" });
        expect(() => app.task(name as string, () => 1)).toThrow(
          expect.objectContaining({ code: "invalid_key" }),
        );
      },
    );

    test("the furthest instants a Date can hold are kept", async () => {
      const { app, queue } = await stage.queue();
      const last = await queue.enqueue("t", 1, { runAt: new Date(8.64e15) });
      const first = await queue.enqueue("t", 1, { runAt: new Date(-8.64e15) });
      expect((await app.get(last.id))?.dueAt).toBe(8.64e15);
      expect((await app.get(first.id))?.state).toBe("waiting");
    });

    test.each([
      "",
      "../../etc",
      "'; --",
      "x".repeat(10_000),
      "00000000-0000-0000-0000-000000000000",
      "\0",
      undefined,
    ])("an id that names no task (%j) is unknown, not an error of the database", async (id) => {
      const app = await stage.app();
      expect(await app.get(id as string)).toBeUndefined();
      expect(await app.cancel(id as string)).toBeUndefined();
      expect(await app.retry(id as string)).toBeUndefined();
      await expect(app.result(id as string)).rejects.toMatchObject({ code: "task_not_found" });
    });
  });
}
