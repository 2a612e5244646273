import type { NewTask, TaskStore } from "../store/task-store.ts";

interface Pending {
  readonly task: NewTask;
  resolve(): void;
  reject(error: unknown): void;
}

/** Most tasks that are stored in one statement. */
const batchMax = 1000;
/** Statements of one queue under way at once. */
const flightsMax = 2;

/**
 * Groups concurrent enqueues of one queue into one statement: what is called while a statement is under way goes with the
 * next. A lone call is sent at the end of its turn of the event loop, so it waits for nobody.
 */
export class EnqueueBatch {
  readonly #store: TaskStore;
  readonly #queueId: number;
  #pending: Pending[] = [];
  #flights = 0;
  #queued = false;

  constructor(store: TaskStore, queueId: number) {
    this.#store = store;
    this.#queueId = queueId;
  }

  /** Stores one task; resolves when it is durable. */
  add(task: NewTask): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ task, resolve, reject });
      if (this.#queued) return;
      this.#queued = true;
      queueMicrotask(() => {
        this.#queued = false;
        this.#flush();
      });
    });
  }

  #flush(): void {
    // One statement under way collects; a second is worth a connection only for a crowd.
    while (
      this.#pending.length > 0 &&
      (this.#flights === 0 || (this.#flights < flightsMax && this.#pending.length >= 16))
    ) {
      void this.#send(this.#pending.splice(0, batchMax));
    }
  }

  async #send(batch: readonly Pending[]): Promise<void> {
    this.#flights++;
    try {
      await this.#store.taskEnqueue(
        this.#queueId,
        batch.map((pending) => pending.task),
      );
      for (const pending of batch) pending.resolve();
    } catch (error) {
      for (const pending of batch) pending.reject(error);
    } finally {
      this.#flights--;
      this.#flush();
    }
  }
}
