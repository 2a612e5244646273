import type { TaskError } from "../task/failure.ts";

/** Which attempt of which task an event speaks of. */
export interface AttemptRef {
  readonly id: string;
  readonly queue: string;
  readonly partition: string;
  readonly name: string;
  /** Which start of the task this is, from 1. */
  readonly attempt: number;
  /** The fence of the attempt's lease: grows from lease to lease of a task. */
  readonly fence: number;
}

/** What an app tells while it works. Listeners run in line: keep them short. */
export interface QueueEvents {
  /** A handler is about to be called. */
  start: { readonly task: AttemptRef; readonly startUs: number };
  /** A handler returned; its result is about to be recorded. */
  success: { readonly task: AttemptRef };
  /** An attempt failed; the task runs again in `retryInMs`. */
  failure: { readonly task: AttemptRef; readonly error: TaskError; readonly retryInMs: number };
  /** An attempt failed and the task is dead. */
  dead: { readonly task: AttemptRef; readonly error: TaskError };
  /** An attempt ended after its lease had been taken away: what it reported changed nothing. */
  stale: { readonly id: string; readonly queue: string; readonly fence: number };
  /** A grant was given back unstarted because its time had passed, by so many microseconds at most. */
  late: { readonly task: AttemptRef; readonly byUs: number };
  /** A worker lost its lease; the attempts it was running were aborted. */
  "lease-lost": { readonly workerId: string; readonly running: number };
  /** Attempts of lost workers were made claimable again. */
  recovered: { readonly count: number };
  /** Something in the background failed and will be tried again. */
  error: { readonly error: unknown; readonly during: string };
  /** A handler called `ctx.log`. */
  log: { readonly task: AttemptRef; readonly message: string; readonly fields: object | undefined };
}
