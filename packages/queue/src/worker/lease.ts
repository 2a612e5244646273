import { type Clock, isSluiceError, type Timer } from "@sluice/core";
import type { TaskStore, WorkerRuns } from "../store/task-store.ts";

/** What a lease needs of its worker. */
export interface LeaseHost {
  readonly clock: Clock;
  readonly store: TaskStore;
  /** Called after each renewal with what the store says this worker runs. */
  renewed(runs: WorkerRuns): void;
  /** Called when the lease is gone or can no longer be known to hold. A new one is taken right after. */
  lost(workerId: string): void;
  failed(error: unknown, during: string): void;
}

/**
 * A worker's lease: the right to start tasks and to record how they ended, renewed by heartbeat at a third of its life.
 * Locally it ends one life after the last renewal was *sent*, so never later than in the store; a worker whose
 * process was stopped or whose store is out of reach finds out by its own clock. A lost lease is never taken up again: the
 * worker joins anew under another id.
 */
export class Lease {
  readonly #host: LeaseHost;
  readonly #name: string;
  readonly #leaseUs: number;
  #workerId = "";
  #untilUs = 0;
  #timer: Timer | undefined;
  #beating: Promise<void> | undefined;
  #closed = false;

  constructor(host: LeaseHost, name: string, leaseMs: number) {
    this.#host = host;
    this.#name = name;
    this.#leaseUs = leaseMs * 1000;
  }

  get workerId(): string {
    return this.#workerId;
  }

  /** Whether the lease surely holds at a local instant. */
  holds(nowUs: number): boolean {
    return nowUs < this.#untilUs;
  }

  async join(): Promise<void> {
    const id = crypto.randomUUID();
    const sentUs = this.#host.clock.nowUs();
    await this.#host.store.workerJoin(id, this.#name, this.#leaseUs);
    this.#workerId = id;
    this.#untilUs = sentUs + this.#leaseUs;
    this.#arm(this.#leaseUs / 3);
  }

  /** Renews now, or waits for the renewal under way. */
  async beat(): Promise<void> {
    this.#timer?.cancel();
    this.#beating ??= this.#beat().finally(() => {
      this.#beating = undefined;
    });
    await this.#beating;
  }

  /** Renews soon, because something may be amiss. */
  beatSoon(delayUs: number): void {
    this.#arm(delayUs);
  }

  /** The store says that the lease is gone. */
  async revoked(): Promise<void> {
    this.#untilUs = 0;
    await this.beat();
  }

  async leave(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#untilUs = 0;
    await this.#beating;
    if (this.#workerId !== "") await this.#host.store.workerLeave(this.#workerId);
  }

  #arm(delayUs: number): void {
    this.#timer?.cancel();
    if (this.#closed) return;
    this.#timer = this.#host.clock.setTimer(() => void this.beat(), delayUs);
  }

  async #beat(): Promise<void> {
    const { clock, store } = this.#host;
    try {
      const sentUs = clock.nowUs();
      if (this.holds(sentUs)) {
        const runs = await store.workerBeat(this.#workerId, this.#leaseUs / 3000);
        if (this.#closed) return;
        if (runs !== undefined && this.holds(clock.nowUs())) {
          this.#untilUs = sentUs + this.#leaseUs;
          this.#host.renewed(runs);
          return this.#arm(this.#leaseUs / 3);
        }
      }
      await this.#rejoin();
    } catch (error) {
      if (!isSluiceError(error, "closed")) this.#host.failed(error, "renewal of the worker's lease");
      this.#arm(Math.min(this.#leaseUs / 10, 1_000_000));
    }
  }

  async #rejoin(): Promise<void> {
    this.#untilUs = 0;
    const lost = this.#workerId;
    if (lost !== "") {
      this.#workerId = "";
      this.#host.lost(lost);
      // Gives back at once what the store still holds under the old lease, instead of at its expiry.
      await this.#host.store
        .workerLeave(lost)
        .catch((error: unknown) => this.#host.failed(error, "end of a lost lease"));
    }
    if (!this.#closed) await this.join();
  }
}
