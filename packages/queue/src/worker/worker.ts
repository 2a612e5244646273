import { type Clock, type Emitter, SluiceError } from "@sluice/core";
import { pruner } from "../maintenance/pruner.ts";
import { rescueEveryUs, rescuer } from "../maintenance/rescuer.ts";
import type { Service } from "../maintenance/service.ts";
import type { Grant, TaskStore, WorkerRuns } from "../store/task-store.ts";
import type { Backoff } from "../task/backoff.ts";
import { Attempt, type AttemptEnd } from "./attempt.ts";
import { Dispatcher, type DispatchHost, type ServedQueue } from "./dispatcher.ts";
import type { QueueEvents } from "./events.ts";
import { Lease } from "./lease.ts";
import { Slots } from "./slots.ts";
import { StoreClock } from "./store-clock.ts";
import { SuspectTurns } from "./suspects.ts";
import type { AttemptServices, TaskDeclaration } from "./task-handler.ts";

/** Settings of a worker, resolved. */
export interface WorkerOptions {
  readonly name: string;
  readonly concurrency: number;
  readonly leaseMs: number;
  readonly drainMs: number;
  readonly horizonMs: number;
  readonly pollMs: number;
}

/** A queue a worker is to serve. */
export interface WorkerQueue extends ServedQueue {
  readonly backoff: Backoff;
}

/** What a worker needs of its app. */
export interface WorkerHost {
  readonly clock: Clock;
  readonly store: TaskStore;
  readonly events: Emitter<QueueEvents>;
  readonly services: AttemptServices;
  /** The handler of a task; undefined when none is declared. */
  handlerOf(task: string): TaskDeclaration | undefined;
  failed(error: unknown, during: string): void;
}

const pruneEveryUs = 30_000_000;
/** How long a stop waits for the store after the drain: a slow one must not keep a process that is told to end. */
const farewellUs = 800_000;
/** Readings of the store's clock before the first claim. */
const clockSamples = 5;

/** Runs tasks: holds the lease, shares its slots among the queues it serves, and watches over what it runs. */
export class Worker {
  readonly #host: WorkerHost;
  readonly #options: WorkerOptions;
  readonly #slots: Slots;
  readonly #storeClock = new StoreClock();
  readonly #lease: Lease;
  readonly #dispatchers: ReadonlyMap<number, Dispatcher>;
  readonly #backoffs: ReadonlyMap<number, Backoff>;
  readonly #running = new Map<number, Attempt>();
  readonly #services: readonly Service[];
  /** Fences the store holds for this worker and the worker does not know, with the time since when. */
  #unknown: ReadonlyMap<number, number> = new Map();
  #stopped: Promise<void> | undefined;
  #onDrained: (() => void) | undefined;

  constructor(host: WorkerHost, queues: readonly WorkerQueue[], options: WorkerOptions) {
    this.#host = host;
    this.#options = options;
    this.#slots = new Slots(options.concurrency);
    this.#lease = new Lease(
      {
        clock: host.clock,
        store: host.store,
        renewed: (runs) => this.#reckon(runs),
        lost: (workerId) => this.#dropAll(workerId),
        failed: host.failed,
      },
      options.name,
      options.leaseMs,
    );
    const dispatchHost = this.#dispatchHost();
    this.#dispatchers = new Map(queues.map((queue) => [queue.id, new Dispatcher(dispatchHost, queue)]));
    this.#backoffs = new Map(queues.map((queue) => [queue.id, queue.backoff]));
    const round = { clock: host.clock, chance: Math.random, failed: host.failed };
    this.#services = [
      rescuer(host.store, { ...round, everyUs: rescueEveryUs(options.leaseMs) }, (count) =>
        host.events.emit("recovered", { count }),
      ),
      pruner(host.store, { ...round, everyUs: pruneEveryUs }),
    ];
  }

  /** How many handlers run now. */
  get running(): number {
    return this.#running.size;
  }

  /** Joins and begins to serve. Called once. */
  async start(): Promise<void> {
    await this.#lease.join();
    for (let sample = 0; sample < clockSamples; sample++) await this.#readClock();
    for (const service of this.#services) service.start();
    for (const dispatcher of this.#dispatchers.values()) dispatcher.start();
  }

  /** Narrows down where the store's clock stands, so that the first grants can be placed in time. */
  async #readClock(): Promise<void> {
    const { clock, store } = this.#host;
    const sentUs = clock.nowUs();
    const storeUs = await store.clockRead();
    this.#storeClock.observe(sentUs, clock.nowUs(), storeUs);
  }

  /**
   * Stops: claims nothing more, gives back what has not started, waits up to `drainMs` for what runs, then aborts it
   * and leaves its tasks to others at once; if the store does not answer within a second, when the lease runs out. Idempotent.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    const dispatchers = [...this.#dispatchers.values()];
    for (const dispatcher of dispatchers) dispatcher.stop();
    // A round of theirs under way comes to its end meanwhile.
    const served = Promise.all(this.#services.map((service) => service.stop()));
    await this.#within(
      this.#options.drainMs * 1000,
      this.#drained().then(() => Promise.all(dispatchers.map((dispatcher) => dispatcher.flushed()))),
    );
    for (const attempt of this.#running.values()) {
      attempt.drop(
        new SluiceError("closed", "the worker stopped before the task was done; it will run again"),
      );
    }
    for (const dispatcher of dispatchers) dispatcher.close();
    const left = this.#lease
      .leave()
      .catch((error: unknown) => this.#host.failed(error, "end of the worker's lease"));
    await this.#within(farewellUs, Promise.all([served, left]));
  }

  /** Resolves when no handler runs. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained = resolve;
      if (this.#running.size === 0) resolve();
    });
  }

  /** Waits for `work`, but no longer than `limitUs`. */
  async #within(limitUs: number, work: Promise<unknown>): Promise<void> {
    let give: () => void = () => undefined;
    const limit = new Promise<void>((resolve) => {
      give = resolve;
    });
    const timer = this.#host.clock.setTimer(() => give(), limitUs);
    await Promise.race([work, limit]);
    timer.cancel();
  }

  /** A queue may have something to start. */
  wake(queueId: number): void {
    this.#dispatchers.get(queueId)?.wake();
  }

  /** Messages may have been missed. */
  wakeAll(): void {
    for (const dispatcher of this.#dispatchers.values()) dispatcher.wake();
  }

  /** A task was cancelled while it may be running here. */
  cancel(taskId: string): void {
    for (const attempt of this.#running.values()) if (attempt.ref.id === taskId) attempt.cancel();
    for (const dispatcher of this.#dispatchers.values()) dispatcher.cancel(taskId);
  }

  /** How long an exchange may take, in milliseconds. */
  get #answerMs(): number {
    return Math.min(this.#options.leaseMs / 3, 10_000);
  }

  #dispatchHost(): DispatchHost {
    const { clock, store, events, handlerOf } = this.#host;
    const { horizonMs, pollMs, leaseMs } = this.#options;
    const lease = this.#lease;
    return {
      clock,
      store,
      storeClock: this.#storeClock,
      slots: this.#slots,
      suspects: new SuspectTurns(),
      get workerId() {
        return lease.workerId;
      },
      horizonUs: horizonMs * 1000,
      pollUs: pollMs * 1000,
      deadlineMs: this.#answerMs,
      chance: Math.random,
      holdsLease: (nowUs) => lease.holds(nowUs),
      begin: (queue, grant) => {
        const declaration = handlerOf(grant.name);
        if (declaration !== undefined) return this.#begin(queue, grant, declaration);
        this.#host.failed(
          new SluiceError(
            "no_handler",
            `no handler is declared for task ${grant.name} (queue ${queue.name}); it waits for a worker that has one`,
          ),
          "claim",
        );
        return undefined;
      },
      ended: (attempt, end) => this.#ended(attempt, end),
      late: (task, byUs) => events.emit("late", { task, byUs }),
      stale: (queue, id, fence) => events.emit("stale", { id, queue: queue.name, fence }),
      workerGone: () => void lease.revoked(),
      storeFailed: (error, during) => {
        this.#host.failed(error, during);
        // The lost answer may have granted something: reckon with the store twice before long.
        lease.beatSoon(Math.min(leaseMs / 6, 500) * 1000);
      },
    };
  }

  #begin(
    queue: ServedQueue,
    grant: Grant,
    declaration: TaskDeclaration,
  ): { attempt: Attempt; end: Promise<AttemptEnd> } {
    const attempt = new Attempt(queue.name, grant, this.#host.services);
    this.#running.set(grant.fence, attempt);
    const { events, clock } = this.#host;
    if (events.has("start")) events.emit("start", { task: attempt.ref, startUs: grant.startUs });
    const end = attempt.run(
      declaration,
      { backoff: this.#backoffs.get(queue.id)!, chance: Math.random },
      clock,
    );
    return { attempt, end };
  }

  #ended(attempt: Attempt, end: AttemptEnd): void {
    this.#running.delete(attempt.ref.fence);
    const { events } = this.#host;
    const { ref: task } = attempt;
    if (attempt.dropped) events.emit("stale", { id: task.id, queue: task.queue, fence: task.fence });
    else if (end.error === undefined) {
      if (events.has("success")) events.emit("success", { task });
    } else if (end.retryInMs === undefined) events.emit("dead", { task, error: end.error });
    else events.emit("failure", { task, error: end.error, retryInMs: end.retryInMs });
    if (this.#running.size === 0) this.#onDrained?.();
  }

  /**
   * Compares what the store says this worker runs with what it knows. A lease it has not known for longer than an answer may take
   * was granted in one that never arrived: it is given back. Tasks to be cancelled are told so.
   */
  #reckon({ runs, cancelling }: WorkerRuns): void {
    const unknown = new Map<number, number>();
    const nowUs = this.#host.clock.nowUs();
    const answerUs = this.#answerMs * 1000;
    for (const { taskId, fence, lane, queueId } of runs) {
      const dispatcher = this.#dispatchers.get(queueId);
      if (dispatcher === undefined || dispatcher.fences.has(fence)) continue;
      const sinceUs = this.#unknown.get(fence) ?? nowUs;
      if (nowUs - sinceUs > answerUs) dispatcher.disown(taskId, fence, lane);
      else unknown.set(fence, sinceUs);
    }
    this.#unknown = unknown;
    if (unknown.size > 0) this.#lease.beatSoon(answerUs / 3);
    for (const taskId of cancelling) this.cancel(taskId);
  }

  #dropAll(workerId: string): void {
    const lost = new SluiceError(
      "lease_lost",
      "the worker lost its lease: the task may be running elsewhere",
    );
    const running = [...this.#running.values()].filter((attempt) => !attempt.dropped);
    for (const attempt of running) attempt.drop(lost);
    for (const dispatcher of this.#dispatchers.values()) dispatcher.drop();
    this.#host.events.emit("lease-lost", { workerId, running: running.length });
  }
}
