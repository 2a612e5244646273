import { custom, durationMs, integer, optional, resolveOptions, SluiceError, string } from "@sluice/core";
import type { NewTask, SendStatement, TaskStore } from "../store/task-store.ts";
import { encodePayload } from "../task/payload.ts";
import { newTaskId } from "../task/task-id.ts";
import { checkName, type QueueDefinition, queueRecord, taskDigest } from "./definition.ts";
import { EnqueueBatch } from "./enqueue-batch.ts";

/** A client of the caller's own PostgreSQL driver, inside a transaction: of `pg`'s kind. */
export interface TransactionClient {
  query(text: string, values: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
}

/** A declared task, as `app.task` returns it: enqueueing through it checks the type of the input. */
export interface Task<Input = unknown, Result = unknown> {
  readonly name: string;
  /** Carries the types only. */
  readonly types?: { readonly input: Input; readonly result: Result };
}

/** Settings of one enqueue. */
export interface EnqueueOptions {
  /**
   * The lane: tasks of one partition are taken in the order in which their enqueues were committed, and with
   * `partition.concurrency` 1 they also run in it. Default: one lane for all tasks without.
   */
  readonly partition?: string;
  /** Milliseconds until the task may start. Default 0, at most 10 years. */
  readonly delayMs?: number;
  /** When the task may start. Not together with `delayMs`; an instant in the past is now. */
  readonly runAt?: Date;
  /** A second enqueue with the same key within `idempotencyKeepMs` stores nothing and gets the first one's id. 1 to 200 characters. */
  readonly idempotencyKey?: string;
  /** How long the key is remembered, in milliseconds. Default 24 h, at most 1 year. */
  readonly idempotencyKeepMs?: number;
  /** Failed attempts after which the task is dead. Default: the task's, else the queue's. */
  readonly maxAttempts?: number;
  /** A client inside your transaction (READ COMMITTED): the task exists if and when it commits, and takes its place then. */
  readonly client?: TransactionClient;
}

/** One task of `enqueueMany`. */
export interface EnqueueItem extends Omit<EnqueueOptions, "client"> {
  readonly task: Task | string;
  readonly input?: unknown;
}

/** What an enqueue came to. */
export interface Enqueued {
  readonly id: string;
  /** True if an earlier task with the same idempotency key stands for this one. */
  readonly duplicate: boolean;
}

/** Most tasks of one `enqueueMany`. */
const manyMax = 10_000;

/** What is read before options are resolved: of `enqueueMany` the item itself too. */
const alreadyRead: ReadonlySet<string> = new Set(["partition", "task", "input"]);
const itemSpec = {
  partition: optional(string({ maxLength: 200 })),
  task: optional(custom("a task or its name", (value) => value)),
  input: optional(custom("any value", (value) => value)),
  delayMs: optional(durationMs({})),
  runAt: optional(
    custom("a valid Date", (value) =>
      value instanceof Date && Number.isFinite(value.getTime()) ? value : undefined,
    ),
  ),
  idempotencyKey: optional(string({ maxLength: 200 })),
  idempotencyKeepMs: durationMs({ default: 86_400_000, min: 1000, max: 365 * 86_400_000 }),
  maxAttempts: optional(integer({ min: 1, max: 1_000_000 })),
};
const noOptions: EnqueueOptions = Object.freeze({});

/** What a queue needs of its app. */
export interface QueueHost {
  readonly store: TaskStore;
  /** The task's own limit of attempts. */
  maxAttemptsOf(task: string): number | undefined;
  checkOpen(): void;
}

/** A handle on a queue. */
export class Queue {
  readonly definition: QueueDefinition;
  readonly #host: QueueHost;
  readonly #owner: string;
  #declared: Promise<number> | undefined;
  #batch: EnqueueBatch | undefined;

  constructor(host: QueueHost, definition: QueueDefinition) {
    this.#host = host;
    this.definition = definition;
    this.#owner = `queue ${JSON.stringify(definition.name)}`;
  }

  get name(): string {
    return this.definition.name;
  }

  /** The queue's id in the store, which knows the definition from then on. */
  id(): Promise<number> {
    this.#declared ??= this.#host.store.queueDeclare(queueRecord(this.definition)).catch((error: unknown) => {
      this.#declared = undefined;
      throw error;
    });
    return this.#declared;
  }

  /**
   * Stores a task; resolves when it is durable. Concurrent calls share a statement.
   * @throws SluiceError `payload_invalid`, `payload_too_large`, `invalid_option`, `invalid_key`, `idempotency_conflict`;
   *   `store_unavailable` and `store_timeout` mean that it may have been stored: with an idempotency key, ask again.
   */
  async enqueue<Input>(
    task: Task<Input> | string,
    input?: Input,
    options: EnqueueOptions = noOptions,
  ): Promise<Enqueued> {
    const { client, ...rest } = options;
    const stored = this.#newTask(task, input, rest);
    const id = await this.#open();
    if (client === undefined && stored.key === null) {
      this.#batch ??= new EnqueueBatch(this.#host.store, id);
      await this.#batch.add(stored);
      return { id: stored.id, duplicate: false };
    }
    const duplicates = await this.#host.store.taskEnqueue(id, [stored], client && sendTo(client));
    const earlier = duplicates.get(0);
    return { id: earlier ?? stored.id, duplicate: earlier !== undefined };
  }

  /**
   * Stores up to 10 000 tasks in one statement, all or none, in this order.
   * @throws SluiceError as `enqueue`, and `batch_too_large`.
   */
  async enqueueMany(
    items: readonly EnqueueItem[],
    options: { readonly client?: TransactionClient } = {},
  ): Promise<Enqueued[]> {
    if (items.length > manyMax) {
      throw new SluiceError(
        "batch_too_large",
        `queue ${this.name}: enqueueMany takes at most ${manyMax} tasks, got ${items.length}`,
      );
    }
    const tasks = items.map((item) => this.#newTask(item.task, item.input, item));
    if (tasks.length === 0) return [];
    const id = await this.#open();
    const duplicates = await this.#host.store.taskEnqueue(
      id,
      tasks,
      options.client && sendTo(options.client),
    );
    return tasks.map((task, place) => {
      const earlier = duplicates.get(place);
      return { id: earlier ?? task.id, duplicate: earlier !== undefined };
    });
  }

  /** How many tasks are in each state, counted in one snapshot. Finished ones as far as they are kept. */
  async stats(): Promise<QueueStats> {
    const counts = await this.#host.store.queueStats(await this.#open());
    const of = (state: string): number => counts.get(state) ?? 0;
    return {
      waiting: of("waiting"),
      running: of("running"),
      scheduled: of("scheduled"),
      succeeded: of("succeeded"),
      dead: of("dead"),
      cancelled: of("cancelled"),
    };
  }

  /** Stops claims on the queue in all processes. What runs goes on. */
  async pause(): Promise<void> {
    await this.#host.store.queuePause(await this.#open(), true);
  }

  async resume(): Promise<void> {
    await this.#host.store.queuePause(await this.#open(), false);
  }

  #open(): Promise<number> {
    this.#host.checkOpen();
    return this.id();
  }

  #newTask(task: Task | string, input: unknown, options: Omit<EnqueueOptions, "client">): NewTask {
    const name = typeof task === "string" ? task : task?.name;
    checkName("task", name);
    const { partition } = options;
    if (partition !== undefined) checkName("partition", partition);
    const plain = {
      id: newTaskId(),
      name,
      partition: partition ?? "",
      input: encodePayload(this.#owner, "input", input),
      maxAttempts: this.#host.maxAttemptsOf(name) ?? this.definition.maxAttempts,
      delayUs: null,
      runAtUs: null,
      key: null,
    };
    // Most tasks have a partition and nothing else: nothing is left to be resolved.
    for (const option in options) if (!alreadyRead.has(option)) return this.#withOptions(plain, options);
    return plain;
  }

  #withOptions(plain: NewTask, options: object): NewTask {
    const owner = `${this.#owner}, task ${plain.name}`;
    const given = resolveOptions(owner, itemSpec, options);
    if (given.delayMs !== undefined && given.runAt !== undefined) {
      throw new SluiceError(
        "invalid_option",
        `${owner}: options delayMs and runAt: expected one of them, got both`,
        { details: { owner, option: "runAt" } },
      );
    }
    const key =
      given.idempotencyKey === undefined
        ? null
        : {
            text: given.idempotencyKey,
            digest: taskDigest(plain.name, plain.partition, plain.input),
            keepUs: Math.round(given.idempotencyKeepMs * 1000),
          };
    return {
      ...plain,
      maxAttempts: given.maxAttempts ?? plain.maxAttempts,
      delayUs: given.delayMs ? Math.round(given.delayMs * 1000) : null,
      runAtUs: given.runAt ? given.runAt.getTime() * 1000 : null,
      key,
    };
  }
}

/** Tasks of a queue by state. */
export interface QueueStats {
  readonly waiting: number;
  readonly running: number;
  readonly scheduled: number;
  readonly succeeded: number;
  readonly dead: number;
  readonly cancelled: number;
}

function sendTo(client: TransactionClient): SendStatement {
  if (typeof client?.query !== "function") {
    throw new SluiceError(
      "invalid_option",
      "option client: expected a client with a query(text, values) method",
      { details: { option: "client" } },
    );
  }
  return async (text, values) => (await client.query(text, [...values])).rows;
}
