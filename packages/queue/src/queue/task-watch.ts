import { type Clock, SluiceError, type Timer } from "@sluice/core";
import type { StoredTask, TaskStore } from "../store/task-store.ts";
import { isEnded } from "../task/state.ts";

/** How often a watched task is looked at although no message told of its end. */
const recheckUs = 2_000_000;

/** Waits for tasks to end: one message each from the store, and a look now and then in case a message was missed. */
export class TaskWatch {
  readonly #store: TaskStore;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Set<() => void>>();
  #timer: Timer | undefined;
  #closed = false;

  constructor(store: TaskStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Resolves to the task when it has ended, undefined when there is none. @throws SluiceError `timeout`, `closed`; the signal's reason. */
  async ended(
    id: string,
    timeoutMs: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<StoredTask | undefined> {
    const deadlineUs = timeoutMs === undefined ? undefined : this.#clock.nowUs() + timeoutMs * 1000;
    for (;;) {
      signal?.throwIfAborted();
      if (this.#closed)
        throw new SluiceError("closed", "the app was closed while waiting for a task's result");
      // Joined before the store is asked: an end between the two is not missed.
      const news = this.#news(id, deadlineUs, signal);
      try {
        const done = await this.#store.taskWatch(id);
        if (done === undefined) return undefined;
        if (done) return await this.#store.taskRead(id);
        await news.promise;
      } finally {
        news.leave();
      }
      const stored = await this.#store.taskRead(id);
      if (stored === undefined || isEnded(stored.state)) return stored;
      if (deadlineUs !== undefined && this.#clock.nowUs() >= deadlineUs) {
        throw new SluiceError(
          "timeout",
          `task ${id} has not ended within ${timeoutMs} ms; it is ${stored.state}`,
        );
      }
    }
  }

  /** A task has ended. */
  done(id: string): void {
    for (const wake of this.#waiting.get(id) ?? []) wake();
  }

  /** Messages may have been missed. */
  recheck(): void {
    for (const waiters of this.#waiting.values()) for (const wake of waiters) wake();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.recheck();
  }

  /** Resolves when there is reason to look at a task again. */
  #news(
    id: string,
    deadlineUs: number | undefined,
    signal: AbortSignal | undefined,
  ): { promise: Promise<void>; leave: () => void } {
    let wake: () => void = () => undefined;
    const promise = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const waiters = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiters.add(wake));
    const limit =
      deadlineUs === undefined ? undefined : this.#clock.setTimer(wake, deadlineUs - this.#clock.nowUs());
    signal?.addEventListener("abort", wake, { once: true });
    this.#timer ??= this.#clock.setTimer(() => {
      this.#timer = undefined;
      this.recheck();
    }, recheckUs);
    const leave = (): void => {
      limit?.cancel();
      signal?.removeEventListener("abort", wake);
      waiters.delete(wake);
      if (waiters.size === 0) this.#waiting.delete(id);
      if (this.#waiting.size === 0) {
        this.#timer?.cancel();
        this.#timer = undefined;
      }
    };
    return { promise, leave };
  }
}
