import {
  type Clock,
  custom,
  durationMs,
  Emitter,
  integer,
  isSluiceError,
  list,
  optional,
  resolveOptions,
  SluiceError,
  string,
  systemClock,
} from "@sluice/core";
import { backoffField, checkName, defineQueue, type QueueOptions, workerQueue } from "./queue/definition.ts";
import { type Enqueued, Queue, type Task } from "./queue/queue.ts";
import { TaskWatch } from "./queue/task-watch.ts";
import type { Database, DatabaseSource } from "./store/database.ts";
import { openPostgres, type PgPool } from "./store/postgres.ts";
import { migrate } from "./store/schema.ts";
import { sqlTaskStore } from "./store/sql-task-store.ts";
import type { StoredTask, StoreMessage, TaskStore } from "./store/task-store.ts";
import type { Backoff } from "./task/backoff.ts";
import type { TaskError } from "./task/failure.ts";
import { decodePayload } from "./task/payload.ts";
import { isEnded, type TaskState } from "./task/state.ts";
import { isTaskId } from "./task/task-id.ts";
import type { QueueEvents } from "./worker/events.ts";
import type { AttemptServices, TaskDeclaration, TaskHandler } from "./worker/task-handler.ts";
import { Worker } from "./worker/worker.ts";

/** Settings of an app. */
export interface SluiceOptions {
  /** A `postgres://` URL, your own `pg` Pool (it stays yours), or `embedded(".sluice")`. PostgreSQL 15 or later. */
  readonly database: string | PgPool | DatabaseSource;
  /** The schema that holds everything. Default `"sluice"`; a lower-case identifier of at most 40 characters. */
  readonly schema?: string;
  /** Where time comes from. Default: the system's monotonic clock. */
  readonly clock?: Clock;
}

/** Settings of a task. */
export interface TaskOptions {
  /** Failed attempts after which a task is dead. Default: the queue's. 1 to 10^6. */
  readonly maxAttempts?: number;
  /** How long one attempt may take, in milliseconds; then its signal aborts and it has failed. Default: any time. */
  readonly timeoutMs?: number;
  /** Waits between attempts. Default: the queue's. */
  readonly backoff?: Partial<Backoff>;
}

/** Settings of a worker. */
export interface WorkOptions {
  /** Which queues to serve, by name or handle. Default: all declared so far. */
  readonly queues?: readonly (string | Queue)[];
  /** Handlers that run at once, over all its queues. Default 100, 1 to 10 000. */
  readonly concurrency?: number;
  /** How long a silent worker keeps what it runs, in milliseconds. Default 30 000, 1 000 to 1 day. */
  readonly leaseMs?: number;
  /** How long `stop` waits for running handlers, in milliseconds. Default 10 000, at most 1 day. */
  readonly drainMs?: number;
  /** How far ahead starts of a rate-limited queue are claimed, in milliseconds: what a lost worker forfeits. Default 250, 20 to 10 000. */
  readonly horizonMs?: number;
  /** How often an idle queue is asked although nothing told of news, in milliseconds. Default 5 000, 50 to 1 hour. */
  readonly pollMs?: number;
  /** Names the worker in the store. Default: host and process id. */
  readonly name?: string;
}

/** A task as `app.get` shows it. Instants are milliseconds since 1970 on the store's clock. */
export interface TaskRecord {
  readonly id: string;
  readonly queue: string;
  readonly partition: string;
  readonly task: string;
  readonly state: TaskState;
  /** Starts so far. */
  readonly attempt: number;
  readonly failures: number;
  /** Attempts lost with their worker. */
  readonly losses: number;
  readonly maxAttempts: number;
  readonly fence: number | undefined;
  readonly input: unknown;
  readonly result: unknown;
  readonly error: TaskError | undefined;
  readonly progress: unknown;
  readonly enqueuedAt: number;
  readonly startedAt: number | undefined;
  readonly finishedAt: number | undefined;
  /** When a scheduled task may start. */
  readonly dueAt: number | undefined;
}

/** A worker of an app. */
export interface WorkerHandle {
  /** How many handlers run now. */
  readonly running: number;
  /** Stops: see `WorkOptions.drainMs`. Idempotent. */
  stop(): Promise<void>;
}

const databaseField = custom<string | PgPool | DatabaseSource>(
  "a postgres:// URL, a pg Pool or embedded(directory)",
  (value) => {
    if (typeof value === "string" && /^postgres(ql)?:\/\//.test(value)) return value;
    if (typeof value !== "object" || value === null) return undefined;
    return "open" in value || "connect" in value ? (value as PgPool | DatabaseSource) : undefined;
  },
);

const appSpec = {
  database: databaseField,
  schema: string({
    default: "sluice",
    maxLength: 40,
    pattern: /^[a-z_][a-z0-9_]*$/,
    form: "of lower-case letters, digits and _",
  }),
  clock: custom<Clock>(
    "a clock",
    (value) => (typeof (value as Clock)?.nowUs === "function" ? (value as Clock) : undefined),
    { default: systemClock },
  ),
};

const taskSpec = {
  maxAttempts: optional(integer({ min: 1, max: 1_000_000 })),
  timeoutMs: optional(durationMs({ min: 1 })),
  backoff: optional(backoffField),
};

const workSpec = {
  queues: optional(
    list(
      custom<string | Queue>("a queue or its name", (value) =>
        typeof value === "string" || value instanceof Queue ? value : undefined,
      ),
      { maxLength: 10_000 },
    ),
  ),
  concurrency: integer({ default: 100, min: 1, max: 10_000 }),
  leaseMs: durationMs({ default: 30_000, min: 1000, max: 86_400_000 }),
  drainMs: durationMs({ default: 10_000, max: 86_400_000 }),
  horizonMs: durationMs({ default: 250, min: 20, max: 10_000 }),
  pollMs: durationMs({ default: 5000, min: 50, max: 3_600_000 }),
  name: string({ default: `pid ${process.pid}`, maxLength: 200 }),
};

const resultSpec = {
  timeoutMs: optional(durationMs({})),
  signal: optional(
    custom<AbortSignal>("an AbortSignal", (value) => (value instanceof AbortSignal ? value : undefined)),
  ),
};

/**
 * Opens Sluice on a database: migrates its schema if needed and returns the app, through which queues and tasks are
 * declared, work is enqueued and workers run.
 * @throws SluiceError `invalid_option`, `store_unavailable`, `database_too_old`, `schema_too_new`, `data_directory_in_use`, …
 */
export async function sluice(options: SluiceOptions): Promise<Sluice> {
  const { database, schema, clock } = resolveOptions("sluice", appSpec, options);
  const opened = await open(database);
  try {
    await migrate(opened, schema);
    const store = sqlTaskStore(opened, schema);
    // Whoever had an embedded database open before is gone: what it ran is free at once.
    if (store.sole) await store.workerRescue(true);
    return new Sluice(store, clock);
  } catch (error) {
    await opened.close().catch(() => undefined);
    throw error;
  }
}

function open(database: string | PgPool | DatabaseSource): Promise<Database> {
  return typeof database === "object" && "open" in database ? database.open() : openPostgres(database);
}

/** An open app; see {@link sluice}. */
export class Sluice {
  readonly #store: TaskStore;
  readonly #clock: Clock;
  readonly #events = new Emitter<QueueEvents>();
  readonly #queues = new Map<string, Queue>();
  readonly #tasks = new Map<string, TaskDeclaration>();
  readonly #workers = new Set<Worker>();
  readonly #watch: TaskWatch;
  /** The subscription to the store's news: none while this app only enqueues, so that fleets of producers are not woken. */
  #listening: Promise<unknown> | undefined;
  #closed: Promise<void> | undefined;
  /** Calls are taken until the workers have stopped: what they still run may enqueue. */
  #open = true;

  /** Use {@link sluice}. */
  constructor(store: TaskStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#watch = new TaskWatch(store, clock);
  }

  /** Listens to an event; returns the function that stops it. */
  on<Name extends keyof QueueEvents>(name: Name, listener: (event: QueueEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  /**
   * Declares a queue, or with no options names one declared before. The store learns of it when it is first used; a
   * changed definition takes effect then, for all processes, and keeps what its limit has consumed.
   * @throws SluiceError `invalid_option`, `invalid_rate`, `invalid_key`, `already_declared`.
   */
  queue(name: string, options?: QueueOptions): Queue {
    this.#checkOpen();
    const known = this.#queues.get(name);
    if (known !== undefined && options === undefined) return known;
    const definition = defineQueue(name, options);
    if (known !== undefined) {
      if (JSON.stringify(known.definition) === JSON.stringify(definition)) return known;
      throw new SluiceError(
        "already_declared",
        `queue ${JSON.stringify(name)} is declared already, with other options`,
      );
    }
    const queue = new Queue(
      {
        store: this.#store,
        maxAttemptsOf: (task) => this.#tasks.get(task)?.maxAttempts,
        checkOpen: () => this.#checkOpen(),
      },
      definition,
    );
    this.#queues.set(name, queue);
    return queue;
  }

  /**
   * Declares a task: the handler that runs it.
   * @throws SluiceError `invalid_option`, `invalid_key`, `already_declared`.
   */
  task<Input, Result>(
    name: string,
    handler: TaskHandler<Input, Result>,
    options?: TaskOptions,
  ): Task<Input, Result> {
    this.#checkOpen();
    checkName("task", name);
    if (typeof handler !== "function") {
      throw new SluiceError(
        "invalid_option",
        `task ${JSON.stringify(name)}: expected a handler function, got ${typeof handler}`,
        { details: { option: "handler" } },
      );
    }
    if (this.#tasks.has(name))
      throw new SluiceError("already_declared", `task ${JSON.stringify(name)} has a handler already`);
    const { maxAttempts, timeoutMs, backoff } = resolveOptions(
      `task ${JSON.stringify(name)}`,
      taskSpec,
      options,
    );
    this.#tasks.set(name, { name, handler, maxAttempts, timeoutMs, backoff });
    return { name };
  }

  /**
   * Starts a worker. Several may run in one process; each has a lease of its own.
   * @throws SluiceError `invalid_option`, `queue_not_found` for a name not declared here, `store_unavailable`.
   */
  async work(options?: WorkOptions): Promise<WorkerHandle> {
    if (this.#closed !== undefined) throw new SluiceError("closed", "the app is closed");
    const { queues, ...rest } = resolveOptions("work", workSpec, options);
    const served = (queues ?? [...this.#queues.values()]).map((queue) => this.#named(queue));
    const ids = await Promise.all(served.map((queue) => queue.id()));
    const worker = new Worker(
      {
        clock: this.#clock,
        store: this.#store,
        events: this.#events,
        services: this.#services(),
        handlerOf: (task) => this.#tasks.get(task),
        failed: (error, during) => this.#failed(error, during),
      },
      served.map((queue, i) => workerQueue(ids[i]!, queue.definition, rest.horizonMs)),
      rest,
    );
    this.#workers.add(worker);
    await this.#listen();
    await worker.start();
    return {
      get running() {
        return worker.running;
      },
      stop: async () => {
        await worker.stop();
        this.#workers.delete(worker);
      },
    };
  }

  /** A task by its id; undefined when there is none (any more). */
  async get(id: string): Promise<TaskRecord | undefined> {
    this.#checkOpen();
    if (!isTaskId(id)) return undefined;
    const stored = await this.#store.taskRead(id);
    return stored === undefined ? undefined : taskRecord(stored);
  }

  /**
   * Waits until a task has ended and resolves to what its handler returned.
   * @throws SluiceError `task_failed` (the task is dead), `task_cancelled`, `task_not_found`, `timeout`; the signal's reason when it aborts.
   */
  async result(
    id: string,
    options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<unknown> {
    this.#checkOpen();
    const { timeoutMs, signal } = resolveOptions("result", resultSpec, options);
    // Not waited for: the caller's time limit holds whatever the store does. Until it is in force, messages may be missed.
    if (this.#listening === undefined)
      this.#listen().then(
        () => this.#watch.recheck(),
        (error: unknown) => this.#failed(error, "subscription to the store's news"),
      );
    const stored = isTaskId(id) ? await this.#watch.ended(id, timeoutMs, signal) : undefined;
    if (stored === undefined)
      throw new SluiceError("task_not_found", `there is no task ${JSON.stringify(String(id).slice(0, 60))}`);
    if (stored.state === "succeeded") return decodePayload(stored.result);
    const error = decodePayload(stored.error) as TaskError | undefined;
    if (stored.state === "cancelled") throw new SluiceError("task_cancelled", `task ${id} was cancelled`);
    throw new SluiceError(
      "task_failed",
      `task ${id} is dead after ${stored.attempt} attempts: ${error?.message ?? "no error was kept"}`,
      {
        details: { taskId: id, error },
        cause: error,
      },
    );
  }

  /** Cancels a task: at once when it is not running, else by aborting its handler's signal. Resolves to its state, undefined when unknown. */
  async cancel(id: string): Promise<TaskState | undefined> {
    this.#checkOpen();
    return isTaskId(id) ? this.#store.taskCancel(id) : undefined;
  }

  /** Lets a dead or cancelled task run again, at its partition's tail and with a fresh error budget. Resolves to its state, undefined when unknown. */
  async retry(id: string): Promise<TaskState | undefined> {
    this.#checkOpen();
    return isTaskId(id) ? this.#store.taskRetry(id) : undefined;
  }

  /** Stops the workers and closes what was opened here. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
    this.#open = false;
    this.#watch.close();
    this.#listening?.catch(() => undefined);
    await this.#store.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #named(queue: string | Queue): Queue {
    const found = typeof queue === "string" ? this.#queues.get(queue) : queue;
    if (found === undefined)
      throw new SluiceError(
        "queue_not_found",
        `queue ${JSON.stringify(queue)} is not declared in this app: call app.queue first`,
      );
    return found;
  }

  #checkOpen(): void {
    if (!this.#open) throw new SluiceError("closed", "the app is closed");
  }

  /** Begins to take in news from the store, once. */
  #listen(): Promise<unknown> {
    this.#listening ??= this.#store
      .listen((message) => this.#receive(message))
      .catch((error: unknown) => {
        this.#listening = undefined;
        throw error;
      });
    return this.#listening;
  }

  #receive(message: StoreMessage): void {
    if (message.kind === "wake") for (const worker of this.#workers) worker.wake(message.queueId);
    else if (message.kind === "cancel") for (const worker of this.#workers) worker.cancel(message.taskId);
    else if (message.kind === "done") this.#watch.done(message.taskId);
    else {
      for (const worker of this.#workers) worker.wakeAll();
      this.#watch.recheck();
    }
  }

  #services(): AttemptServices {
    return {
      stepList: (taskId) => this.#store.stepList(taskId),
      stepRecord: (taskId, fence, name, result) => this.#store.stepRecord(taskId, fence, name, result),
      taskProgress: (taskId, fence, progress) => this.#store.taskProgress(taskId, fence, progress),
      enqueueChild: ({ parent, index, queue, task, input, options }): Promise<Enqueued> =>
        this.#named(queue).enqueue(task, input, {
          ...options,
          idempotencyKey: `child:${parent}:${index}`,
          idempotencyKeepMs: 30 * 86_400_000,
        }),
      log: (task, message, fields) => this.#events.emit("log", { task, message, fields }),
    };
  }

  #failed(error: unknown, during: string): void {
    if (isSluiceError(error, "closed") && this.#closed !== undefined) return;
    if (!this.#events.emit("error", { error, during })) {
      process.emitWarning(`${during}: ${error instanceof Error ? error.message : String(error)}`, {
        type: "SluiceWarning",
      });
    }
  }
}

function taskRecord(stored: StoredTask): TaskRecord {
  const ms = (us: number): number => us / 1000;
  const maybeMs = (us: number | undefined): number | undefined => (us === undefined ? undefined : us / 1000);
  return {
    id: stored.id,
    queue: stored.queue,
    partition: stored.partition,
    task: stored.name,
    state: stored.state,
    attempt: stored.attempt,
    failures: stored.failures,
    losses: stored.losses,
    maxAttempts: stored.maxAttempts,
    fence: stored.fence,
    input: decodePayload(stored.input),
    result: decodePayload(stored.result),
    error: decodePayload(stored.error) as TaskError | undefined,
    progress: decodePayload(stored.progress),
    enqueuedAt: ms(stored.enqueuedUs),
    startedAt: maybeMs(stored.startedUs),
    finishedAt: isEnded(stored.state) ? maybeMs(stored.finishedUs) : undefined,
    dueAt: maybeMs(stored.dueUs),
  };
}
