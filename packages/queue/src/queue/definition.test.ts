import { isSluiceError, type SluiceError } from "@sluice/core";
import { describe, expect, test } from "vitest";
import {
  checkName,
  defineQueue,
  type QueueOptions,
  queueRecord,
  taskDigest,
  workerQueue,
} from "./definition.ts";

function refusal(options: unknown, name: unknown = "users"): SluiceError {
  try {
    defineQueue(name as string, options as QueueOptions);
  } catch (error) {
    if (isSluiceError(error)) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(options)}`);
}

describe("the definition of a queue", () => {
  test("is complete without options", () => {
    expect(defineQueue("users", undefined)).toEqual({
      name: "users",
      rate: undefined,
      burst: 1,
      guardMs: undefined,
      concurrency: undefined,
      partition: { concurrency: undefined, rate: undefined, burst: 1 },
      maxAttempts: 5,
      maxLosses: 10,
      backoff: { minMs: 500, maxMs: 60_000, factor: 2, jitter: 0.5 },
      retentionMs: 604_800_000,
    });
  });

  test("keeps what is given", () => {
    const options: QueueOptions = {
      rate: "5000/h",
      burst: 10,
      guardMs: 5,
      concurrency: 7,
      partition: { concurrency: 1, rate: { limit: 2, periodMs: 1000 }, burst: 3 },
      maxAttempts: 1,
      maxLosses: 2,
      backoff: { minMs: 1 },
      retentionMs: 0,
    };
    const definition = defineQueue("users", options);
    expect(definition).toMatchObject({
      burst: 10,
      guardMs: 5,
      concurrency: 7,
      maxAttempts: 1,
      maxLosses: 2,
      retentionMs: 0,
    });
    expect(definition.rate).toMatchObject({ limit: 5000, periodUs: 3_600_000_000 });
    expect(definition.partition).toMatchObject({
      concurrency: 1,
      burst: 3,
      rate: { limit: 2, periodUs: 1_000_000 },
    });
    expect(definition.backoff).toEqual({ minMs: 1, maxMs: 60_000, factor: 2, jitter: 0.5 });
  });

  test.each<[string, unknown, string, RegExp]>([
    ["burst", { rate: "1/s", burst: 0 }, "burst", /expected a whole number from 1 to 1000000, got 0/],
    ["burst", { rate: "1/s", burst: 1.5 }, "burst", /got 1\.5/],
    ["burst", { rate: "1/s", burst: 1_000_001 }, "burst", /got 1000001/],
    [
      "guardMs",
      { rate: "1/s", guardMs: -1 },
      "guardMs",
      /expected a duration in milliseconds from 0 to 60000, got -1/,
    ],
    ["guardMs", { rate: "1/s", guardMs: 60_001 }, "guardMs", /got 60001/],
    ["concurrency", { concurrency: 0 }, "concurrency", /expected a whole number from 1 to 1000000, got 0/],
    ["concurrency", { concurrency: Number.POSITIVE_INFINITY }, "concurrency", /got Infinity/],
    ["concurrency", { concurrency: "3" }, "concurrency", /got "3"/],
    ["partition", { partition: 1 }, "partition", /expected an object of options, got 1/],
    ["partition.concurrency", { partition: { concurrency: 0 } }, "partition.concurrency", /got 0/],
    ["partition.burst", { partition: { rate: "1/s", burst: -1 } }, "partition.burst", /got -1/],
    ["maxAttempts", { maxAttempts: 0 }, "maxAttempts", /expected a whole number from 1 to 1000000, got 0/],
    ["maxAttempts", { maxAttempts: 1e9 }, "maxAttempts", /got 1000000000/],
    ["maxLosses", { maxLosses: 0 }, "maxLosses", /got 0/],
    ["backoff", { backoff: [] }, "backoff", /expected an object of options/],
    ["backoff.minMs", { backoff: { minMs: 0 } }, "backoff.minMs", /of at least 1|from 1/],
    ["backoff.maxMs", { backoff: { maxMs: Number.NaN } }, "backoff.maxMs", /got NaN/],
    [
      "backoff.factor",
      { backoff: { factor: 0.5 } },
      "backoff.factor",
      /expected a number from 1 to 100, got 0\.5/,
    ],
    [
      "backoff.jitter",
      { backoff: { jitter: 1.1 } },
      "backoff.jitter",
      /expected a number from 0 to 1, got 1\.1/,
    ],
    ["retentionMs", { retentionMs: -1 }, "retentionMs", /got -1/],
    ["retentionMs", { retentionMs: 1e15 }, "retentionMs", /got 1000000000000000/],
  ])(
    "%s: out of its bounds it is refused, and the message names owner, option, expected and got",
    (_, given, option, message) => {
      const error = refusal(given);
      expect(error.code).toBe("invalid_option");
      expect(error.message).toContain(`queue "users": option ${option}: expected `);
      expect(error.message).toMatch(message);
      expect(error.details).toMatchObject({ option });
    },
  );

  test.each([
    [{ rat: "1/s" }, "rat"],
    [{ partition: { rates: "1/s" } }, "partition.rates"],
    [{ backoff: { min: 1 } }, "backoff.min"],
  ])("an unknown option is refused by its path: %j", (given, path) => {
    const error = refusal(given);
    expect(error.code).toBe("invalid_option");
    expect(error.message).toContain(path);
  });

  test.each(["5/0s", "-1/s", "5", "0/s", "5/-1s", "", "1/s extra", "NaN/s", "1e400/s", null, 5, {}])(
    "the rate %j is refused, for the queue and for its partitions",
    (rate) => {
      const error = refusal({ rate });
      expect(error.code).toBe("invalid_rate");
      expect(error.message).toContain('queue "users": option rate');
      const inner = refusal({ partition: { rate } });
      expect(inner.code).toBe("invalid_rate");
      expect(inner.message).toContain("partition.rate");
    },
  );

  test.each(["burst", "guardMs"])("%s without a rate is refused: it would do nothing", (option) => {
    const error = refusal({ [option]: 2 });
    expect(error.code).toBe("invalid_option");
    expect(error.message).toMatch(new RegExp(`option ${option}: expected a rate beside it`));
  });

  test("a partition's burst without a partition's rate is refused: it would do nothing", () => {
    expect(refusal({ partition: { burst: 2 } }).code).toBe("invalid_option");
  });

  test("a longest wait below the shortest is refused: one of them would do nothing", () => {
    expect(refusal({ backoff: { minMs: 1000, maxMs: 10 } }).code).toBe("invalid_option");
  });

  test.each(["", "x".repeat(201), "a\0b", "a\nb", "\x7f", "\ud800", 5, null, {}])(
    "the name %j is refused",
    (name) => {
      const error = refusal({}, name);
      expect(error.code).toBe("invalid_key");
      expect(error.message).toMatch(/the name of a queue is a string of 1 to 200 characters/);
    },
  );

  test.each(["x", "x".repeat(200), "a b/c:d{e}*", "ünïcode 😀", "__proto__", "constructor"])(
    "the name %j is taken as it is",
    (name) => {
      expect(() => checkName("queue", name)).not.toThrow();
      expect(defineQueue(name, {}).name).toBe(name);
    },
  );
});

describe("a definition as others need it", () => {
  test("the store gets exact numbers", () => {
    const definition = defineQueue("users", {
      rate: "2/1s",
      partition: { rate: "3/10s", burst: 2 },
      retentionMs: 1.5,
    });
    expect(queueRecord(definition)).toMatchObject({
      limit: {
        amount: 2,
        periodUs: 1_000_000,
        guardUs: 12_000,
        burst: 1,
        numerator: 506_000,
        denominator: 1,
      },
      lanePace: { numerator: 3_350_000, denominator: 1, burst: 2 },
      lossesMax: 10,
      retentionUs: 1500,
      concurrency: undefined,
      laneConcurrency: undefined,
    });
  });

  test("the same definition gives the same text, another one another", () => {
    const text = (options: QueueOptions): string => queueRecord(defineQueue("users", options)).definition;
    expect(text({ rate: "2/1s" })).toBe(text({ rate: { limit: 2, periodMs: 1000 } }));
    expect(text({ rate: "2/1s" })).not.toBe(text({ rate: "2/1s", burst: 2 }));
    expect(text({ concurrency: 1 })).not.toBe(text({ partition: { concurrency: 1 } }));
  });

  test("a worker is as late at most as the strictest guard allows", () => {
    const paced = workerQueue(1, defineQueue("users", { rate: "2/1s", partition: { rate: "5/250ms" } }), 250)
      .paced!;
    expect(paced.latenessUs).toBeGreaterThan(0);
    expect(paced.latenessUs).toBeLessThan(7_500);
    expect(workerQueue(1, defineQueue("users", {}), 250).paced).toBeUndefined();
  });

  test("idempotency tells tasks apart by name, partition and input, and by nothing else", () => {
    const digests = [
      taskDigest("a", "b", "1"),
      taskDigest("a", "b", null),
      taskDigest("a", "b", "null"),
      taskDigest("a", "", "1"),
      taskDigest("ab", "", "1"),
      taskDigest("", "ab", "1"),
    ];
    expect(new Set(digests).size).toBe(digests.length);
    expect(taskDigest("a", "b", "1")).toBe(digests[0]);
  });
});
