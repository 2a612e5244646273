export { isSluiceError, SluiceError } from "@sluice/core";
export type { QueueOptions } from "./queue/definition.ts";
export type {
  Enqueued,
  EnqueueItem,
  EnqueueOptions,
  Queue,
  QueueStats,
  Task,
  TransactionClient,
} from "./queue/queue.ts";
export {
  type Sluice,
  type SluiceOptions,
  sluice,
  type TaskOptions,
  type TaskRecord,
  type WorkerHandle,
  type WorkOptions,
} from "./sluice.ts";
export type { Database, DatabaseSource } from "./store/database.ts";
export type { Backoff } from "./task/backoff.ts";
export type { TaskError } from "./task/failure.ts";
export type { TaskState } from "./task/state.ts";
export type { AttemptRef, QueueEvents } from "./worker/events.ts";
export type { ChildOptions, TaskContext, TaskHandler } from "./worker/task-handler.ts";
