import type { Backoff } from "../task/backoff.ts";
import type { AttemptRef } from "./events.ts";

/** What a handler is given beside its input. */
export interface TaskContext {
  /** The task's id: the same in every attempt, so a good idempotency key for calls to others. */
  readonly id: string;
  readonly queue: string;
  /** The partition; empty when the task has none. */
  readonly partition: string;
  /** The task's name. */
  readonly task: string;
  /** Which start of the task this is, from 1. */
  readonly attempt: number;
  /** The fence of this attempt's lease. Hand it to whoever must refuse an older attempt's late writes. */
  readonly fence: number;
  /** The start granted, in microseconds on the store's clock. */
  readonly startAtUs: number;
  /** Aborts when the task is cancelled, its time limit passes, its lease is lost or the worker stops for good. */
  readonly signal: AbortSignal;
  /**
   * Runs `fn` once in the task's life and keeps its result: a later attempt gets the stored result back instead.
   * The result is a copy, as JSON keeps it.
   * @param name Names the step; once per attempt.
   * @throws SluiceError `step_mismatch` when the name was used before in this attempt, `lease_lost`, `result_invalid`,
   *   `result_too_large`, and whatever `fn` throws (nothing is kept then).
   */
  step<Result>(name: string, fn: () => Result | Promise<Result>): Promise<Result>;
  /** Keeps what the attempt says of itself; read with `app.get(id)`. @throws SluiceError `lease_lost`, `payload_invalid`. */
  progress(value: unknown): Promise<void>;
  /** Enqueues a task once in this task's life: the n-th call of a later attempt finds what the n-th call of this one stored. */
  enqueue(
    queue: string,
    task: string,
    input?: unknown,
    options?: ChildOptions,
  ): Promise<{ id: string; duplicate: boolean }>;
  /** Emits a `log` event. */
  log(message: string, fields?: object): void;
}

/** Settings of a task enqueued by a handler; see `EnqueueOptions`. */
export interface ChildOptions {
  readonly partition?: string;
  readonly delayMs?: number;
  readonly maxAttempts?: number;
}

/** The function that runs a task. What it returns is kept as the task's result; what it throws fails the attempt. */
export type TaskHandler<Input = unknown, Result = unknown> = (
  input: Input,
  ctx: TaskContext,
) => Result | Promise<Result>;

/** A declared task. */
export interface TaskDeclaration {
  readonly name: string;
  readonly handler: TaskHandler<never, unknown>;
  readonly maxAttempts: number | undefined;
  readonly timeoutMs: number | undefined;
  readonly backoff: Backoff | undefined;
}

/** A task that a handler enqueues: the `index`-th of its parent. */
export interface Child {
  readonly parent: string;
  readonly index: number;
  readonly queue: string;
  readonly task: string;
  readonly input: unknown;
  readonly options: ChildOptions;
}

/** The services an attempt draws on. */
export interface AttemptServices {
  readonly stepList: (taskId: string) => Promise<ReadonlyMap<string, string | null>>;
  readonly stepRecord: (
    taskId: string,
    fence: number,
    name: string,
    result: string | null,
  ) => Promise<{ result: string | null } | undefined>;
  readonly taskProgress: (taskId: string, fence: number, progress: string) => Promise<boolean>;
  readonly enqueueChild: (child: Child) => Promise<{ id: string; duplicate: boolean }>;
  readonly log: (task: AttemptRef, message: string, fields: object | undefined) => void;
}
