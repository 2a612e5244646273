/**
 * The port of the queue engine: what it asks of the record of tasks, budgets and leases. Every operation is one
 * atomic step. Instants are microseconds on the store's clock, whoever asks; durations cross the border both ways.
 */

import type { LimitRecord, Pace } from "../lane/pace.ts";
import type { TaskState } from "../task/state.ts";

/** A queue as the store keeps it. */
export interface QueueRecord {
  readonly name: string;
  /** The definition as declared, as JSON text. */
  readonly definition: string;
  readonly limit: LimitRecord | undefined;
  /** Tasks of the queue that may run at once; undefined: any number. */
  readonly concurrency: number | undefined;
  /** Tasks of one partition that may run at once; undefined: any number. */
  readonly laneConcurrency: number | undefined;
  /** The rate of each partition; undefined: none. */
  readonly lanePace: (Pace & { readonly periodUs: number }) | undefined;
  /** Lost attempts (their worker died) after which a task is dead. */
  readonly lossesMax: number;
  /** How long finished tasks are kept. */
  readonly retentionUs: number;
}

/** A task to be stored. */
export interface NewTask {
  readonly id: string;
  readonly name: string;
  readonly partition: string;
  /** JSON text; null for no input. */
  readonly input: string | null;
  readonly maxAttempts: number;
  readonly delayUs: number | null;
  readonly runAtUs: number | null;
  readonly key: { readonly text: string; readonly digest: string; readonly keepUs: number } | null;
}

/** How an attempt ended. */
export const ending = {
  succeeded: 0,
  retry: 1,
  dead: 2,
  givenBack: 3,
  deferred: 4,
  cancelled: 5,
} as const;

/** The end of one attempt, to be recorded if the lease still holds. */
export interface Settlement {
  readonly taskId: string;
  readonly fence: number;
  readonly lane: number;
  readonly kind: (typeof ending)[keyof typeof ending];
  /** Result or error as JSON text. */
  readonly body: string | null;
  /** Until the task may run again, for `retry` and `deferred`. */
  readonly delayUs: number;
}

/** Permission to run one attempt of a task, not before `startUs`. */
export interface Grant {
  readonly taskId: string;
  readonly fence: number;
  readonly attempt: number;
  /** Earlier attempts that ended in an error. */
  readonly failures: number;
  readonly maxAttempts: number;
  readonly startUs: number;
  readonly lane: number;
  readonly partition: string;
  readonly name: string;
  readonly input: string | null;
  /** Whether the task's worker was lost twice or more while it ran: see {@link ExchangeRequest.suspect}. */
  readonly suspect: boolean;
}

/** What an exchange says. */
export interface ExchangeRequest {
  readonly queueId: number;
  readonly workerId: string;
  readonly settlements: readonly Settlement[];
  readonly want: number;
  /** Of a partition that runs one task at a time, how many may be taken for each task wanted, to be run one after another. */
  readonly chain: number;
  /** Most tasks to be granted in all. */
  readonly most: number;
  /** How far ahead starts may be granted. */
  readonly horizonUs: number;
  /** How soon at the earliest: an answer takes its time, and a start before it has come would be late. */
  readonly leadUs: number;
  /** How much later than usual grants should stay usable, if the limit can afford it. */
  readonly patienceUs: number;
  /** Whether one of the grants may be a suspect: a worker runs one at a time, so that what kills its process is found alone. */
  readonly suspect: boolean;
  readonly deadlineMs: number;
}

/** What an exchange answers. */
export interface ExchangeAnswer {
  readonly grants: readonly Grant[];
  /** Settlements that changed nothing: the lease was gone. */
  readonly stale: readonly string[];
  /** This worker's own lease is gone. */
  readonly workerGone: boolean;
  /** How much later than usual these grants may be used. */
  readonly patienceUs: number;
  /** The store's clock while it answered. */
  readonly nowUs: number;
  /** When lanes may have something to start again; undefined: not before a wake message. */
  readonly laneUs: number | undefined;
  /** When the next timer is due; undefined: there is none. */
  readonly timerUs: number | undefined;
  /** How many suspects waited for their turn before this claim; 0 also when nothing was wanted. */
  readonly suspects: number;
}

/** A task as stored. */
export interface StoredTask {
  readonly id: string;
  readonly queue: string;
  readonly partition: string;
  readonly name: string;
  readonly state: TaskState;
  readonly attempt: number;
  readonly failures: number;
  readonly losses: number;
  readonly maxAttempts: number;
  readonly fence: number | undefined;
  readonly input: string | null;
  readonly result: string | null;
  readonly error: string | null;
  readonly progress: string | null;
  readonly cancelling: boolean;
  readonly enqueuedUs: number;
  readonly startedUs: number | undefined;
  readonly finishedUs: number | undefined;
  readonly dueUs: number | undefined;
}

/** Where an enqueue inside a caller's own transaction is sent: one statement with `$n` parameters. */
export type SendStatement = (text: string, values: readonly unknown[]) => Promise<readonly unknown[]>;

/** News from the store. */
export type StoreMessage =
  | { readonly kind: "wake"; readonly queueId: number }
  | { readonly kind: "done" | "cancel"; readonly taskId: string }
  /** Messages may have been missed. */
  | { readonly kind: "lost" };

/** The port. Errors: `store_unavailable`, `store_timeout` (either may have taken effect), `store_conflict`. */
export interface TaskStore {
  /** True if no other process can use this store now. */
  readonly sole: boolean;
  /** The store's clock. */
  clockRead(): Promise<number>;
  close(): Promise<void>;
  /** Ends attempts and claims the next tasks, in one atomic step. */
  exchange(request: ExchangeRequest): Promise<ExchangeAnswer>;
  listen(onMessage: (message: StoreMessage) => void): Promise<() => Promise<void>>;
  /** Removes what is past its retention; returns where to go on, undefined at the end of the walk. */
  prune(after: string | undefined): Promise<string | undefined>;
  /** Creates or changes a queue, keeping what its limit has consumed. Resolves to its id. */
  queueDeclare(queue: QueueRecord): Promise<number>;
  queuePause(queueId: number, paused: boolean): Promise<void>;
  queueStats(queueId: number): Promise<ReadonlyMap<string, number>>;
  stepList(taskId: string): Promise<ReadonlyMap<string, string | null>>;
  /** Keeps a step's result; resolves to the one that stands, or undefined when the lease is gone. */
  stepRecord(
    taskId: string,
    fence: number,
    name: string,
    result: string | null,
  ): Promise<{ result: string | null } | undefined>;
  taskCancel(taskId: string): Promise<TaskState | undefined>;
  /**
   * Stores tasks, all or none. Resolves to the ids that earlier tasks with the same idempotency keys have, by place.
   * With `send`, inside the caller's transaction.
   */
  taskEnqueue(
    queueId: number,
    tasks: readonly NewTask[],
    send?: SendStatement,
  ): Promise<ReadonlyMap<number, string>>;
  taskProgress(taskId: string, fence: number, progress: string): Promise<boolean>;
  taskRead(taskId: string): Promise<StoredTask | undefined>;
  taskRetry(taskId: string): Promise<TaskState | undefined>;
  /** Asks for a `done` message; resolves to whether the task has ended, undefined when there is none. */
  taskWatch(taskId: string): Promise<boolean | undefined>;
  /** Renews a worker's lease. Resolves to its runs (fence by task id) and which are to be cancelled; undefined: the lease is gone. */
  workerBeat(workerId: string, deadlineMs: number): Promise<WorkerRuns | undefined>;
  workerJoin(workerId: string, name: string, leaseUs: number): Promise<void>;
  workerLeave(workerId: string): Promise<void>;
  /** Takes back what workers whose lease ran out were running (`all`: of every worker). Resolves to how many attempts. */
  workerRescue(all: boolean): Promise<number>;
}

/** What a worker runs according to the store. */
export interface WorkerRuns {
  readonly runs: readonly {
    readonly taskId: string;
    readonly fence: number;
    readonly lane: number;
    readonly queueId: number;
  }[];
  readonly cancelling: readonly string[];
}
