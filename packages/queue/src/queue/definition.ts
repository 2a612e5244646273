import { createHash } from "node:crypto";
import {
  durationMs,
  integer,
  number,
  type OptionField,
  object,
  optional,
  type Rate,
  type RateInput,
  rate,
  resolveOptions,
  SluiceError,
} from "@sluice/core";
import { checkBurst, defaultGuardUs, lanePace, latenessUs, limitRecord } from "../lane/pace.ts";
import type { QueueRecord } from "../store/task-store.ts";
import type { Backoff } from "../task/backoff.ts";
import type { WorkerQueue } from "../worker/worker.ts";

/** Settings of a queue. */
export interface QueueOptions {
  /** Starts per period over all processes and partitions, such as `"2/1s"`. Default: no limit. */
  readonly rate?: RateInput;
  /** Starts that may come at once after a pause. Default 1: strict pacing, evenly spaced. 1 to 10^6. */
  readonly burst?: number;
  /**
   * By how much the period is widened against jitter between a start and the far end, in milliseconds, so that no
   * window of the period ever holds more starts than the limit. Default 1.2 % of the period, at least 7.5, at most 50, never
   * over 4 %. 0 to 60 000.
   */
  readonly guardMs?: number;
  /** Tasks of the queue that may run at once over all processes. Default: any number. 1 to 10^6. */
  readonly concurrency?: number;
  /** Settings of each partition. */
  readonly partition?: {
    /** Tasks of one partition that may run at once over all processes. Default: any number. 1 runs a partition in order. */
    readonly concurrency?: number;
    /** Starts per period of each partition. Default: no limit. */
    readonly rate?: RateInput;
    /** Default 1. */
    readonly burst?: number;
  };
  /** Failed attempts after which a task is dead. Default 5, 1 to 10^6. */
  readonly maxAttempts?: number;
  /** Attempts lost with their worker after which a task is dead: a task that kills its process ends here. Default 10, 1 to 10^6. */
  readonly maxLosses?: number;
  /** Waits between attempts. */
  readonly backoff?: Partial<Backoff>;
  /** How long finished tasks are kept, in milliseconds. Default 7 days, 0 to 10 years. */
  readonly retentionMs?: number;
}

/** Options of `backoff`, for queues and tasks. */
export const backoffField: OptionField<Backoff> = object({
  minMs: durationMs({ default: 500, min: 1 }),
  maxMs: durationMs({ default: 60_000, min: 1 }),
  factor: number({ default: 2, min: 1, max: 100 }),
  jitter: number({ default: 0.5, min: 0, max: 1 }),
});

const burst = integer({ default: 1, min: 1, max: 1_000_000 });
const slots = optional(integer({ min: 1, max: 1_000_000 }));

const spec = {
  rate: optional(rate()),
  burst,
  guardMs: optional(durationMs({ max: 60_000 })),
  concurrency: slots,
  partition: object({ concurrency: slots, rate: optional(rate()), burst }),
  maxAttempts: integer({ default: 5, min: 1, max: 1_000_000 }),
  maxLosses: integer({ default: 10, min: 1, max: 1_000_000 }),
  backoff: backoffField,
  retentionMs: durationMs({ default: 7 * 86_400_000 }),
};

/** A queue's settings, complete. */
export interface QueueDefinition {
  readonly name: string;
  readonly rate: Rate | undefined;
  readonly burst: number;
  readonly guardMs: number | undefined;
  readonly concurrency: number | undefined;
  readonly partition: {
    readonly concurrency: number | undefined;
    readonly rate: Rate | undefined;
    readonly burst: number;
  };
  readonly maxAttempts: number;
  readonly maxLosses: number;
  readonly backoff: Backoff;
  readonly retentionMs: number;
}

/** Checks a queue's name and settings. @throws SluiceError `invalid_key`, `invalid_option`, `invalid_rate`. */
export function defineQueue(name: string, options: QueueOptions | undefined): QueueDefinition {
  checkName("queue", name);
  const owner = `queue ${JSON.stringify(name)}`;
  const resolved = resolveOptions(owner, spec, options);
  checkTogether(owner, resolved, options);
  const definition = { ...resolved, name };
  const { limit, lanePace: pace } = queueRecord(definition);
  if (limit !== undefined) checkBurst(owner, "burst", limit, resolved.rate!);
  if (pace !== undefined) checkBurst(owner, "partition.burst", pace, resolved.partition.rate!);
  return definition;
}

/** Refuses settings that would have no effect, or that contradict each other. */
function checkTogether(
  owner: string,
  resolved: Omit<QueueDefinition, "name">,
  options: QueueOptions | undefined,
): void {
  const useless = [
    resolved.rate === undefined && options?.burst !== undefined && "burst",
    resolved.rate === undefined &&
      resolved.partition.rate === undefined &&
      options?.guardMs !== undefined &&
      "guardMs",
    resolved.partition.rate === undefined && options?.partition?.burst !== undefined && "partition.burst",
  ].find((option) => option !== false);
  if (useless !== undefined) {
    throw new SluiceError(
      "invalid_option",
      `${owner}: option ${useless}: expected a rate beside it, got none`,
      {
        details: { owner, option: useless },
      },
    );
  }
  const { minMs, maxMs } = resolved.backoff;
  if (minMs > maxMs) {
    throw new SluiceError(
      "invalid_option",
      `${owner}: option backoff.maxMs: expected at least minMs (${minMs}), got ${maxMs}`,
      {
        details: { owner, option: "backoff.maxMs", got: maxMs },
      },
    );
  }
}

/** Names of queues, tasks and partitions: byte-exact, 1 to 200 characters, no controls. */
export function checkName(kind: string, name: unknown): asserts name is string {
  if (
    typeof name === "string" &&
    name.length > 0 &&
    name.length <= 200 &&
    !/[\p{Cc}\p{Surrogate}]/u.test(name)
  ) {
    return;
  }
  const got = typeof name === "string" ? JSON.stringify(name.slice(0, 60)) : typeof name;
  throw new SluiceError(
    "invalid_key",
    `the name of a ${kind} is a string of 1 to 200 characters without control characters, got ${got}`,
  );
}

function guardOf(definition: QueueDefinition, rate: Rate): number {
  return definition.guardMs === undefined
    ? defaultGuardUs(rate.periodUs)
    : Math.round(definition.guardMs * 1000);
}

/** The definition as the store keeps it. */
export function queueRecord(definition: QueueDefinition): QueueRecord {
  const { name, rate, partition } = definition;
  return {
    name,
    definition: JSON.stringify({
      ...definition,
      rate: rate?.text,
      partition: { ...partition, rate: partition.rate?.text },
    }),
    limit: rate && limitRecord(rate, definition.burst, guardOf(definition, rate)),
    concurrency: definition.concurrency,
    laneConcurrency: partition.concurrency,
    lanePace:
      partition.rate && lanePace(partition.rate, partition.burst, guardOf(definition, partition.rate)),
    lossesMax: definition.maxLosses,
    retentionUs: Math.round(definition.retentionMs * 1000),
  };
}

/** The longest pause a limit may come to owe for late starts: 50 ms, and a hundredth of its period. */
const patienceUsLongest = 50_000;
const patienceShare = 0.01;

/** The definition as a worker needs it. */
export function workerQueue(id: number, definition: QueueDefinition, horizonMs: number): WorkerQueue {
  const { name, backoff, rate, partition } = definition;
  const rates = [rate, partition.rate].filter((each) => each !== undefined);
  const claimsMax = partition.concurrency === undefined && definition.concurrency === undefined ? 1 : 2;
  const serial = partition.concurrency === 1 && definition.concurrency === undefined;
  const served = { id, name, backoff, claimsMax, serial };
  if (rates.length === 0) return { ...served, paced: undefined };
  const patienceUsMax = Math.min(
    patienceUsLongest,
    patienceShare * Math.min(...rates.map((each) => each.periodUs)),
  );
  const lateness = Math.min(...rates.map((each) => latenessUs(guardOf(definition, each))));
  const perHorizon =
    rate === undefined
      ? Number.POSITIVE_INFINITY
      : Math.ceil((horizonMs * 1000 * rate.limit) / rate.periodUs) + definition.burst;
  return { ...served, paced: { latenessUs: lateness, patienceUsMax, perHorizon } };
}

/** A short word for what a task is, to tell two uses of one idempotency key apart. */
export function taskDigest(name: string, partition: string, input: string | null): string {
  return createHash("sha256")
    .update(JSON.stringify([name, partition, input]))
    .digest("base64url")
    .slice(0, 22);
}
