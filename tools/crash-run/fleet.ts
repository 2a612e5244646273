/** The workers of a run and what is done to them: one seeded fault every few seconds. */
import type { PostgresServer } from "../servers/postgres.ts";
import { type LogFile, monotonicUs } from "./log-file.ts";
import type { Processes, Running } from "./processes.ts";
import { between, pick } from "./random.ts";
import type { ProcessOrders } from "./scenario.ts";

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What a fleet needs. */
export interface FleetHost {
  readonly processes: Processes;
  readonly faults: LogFile;
  readonly server: PostgresServer;
  readonly random: () => number;
  orders(name: string): ProcessOrders;
}

/** A fixed number of worker processes; one that is killed is replaced. */
export class Fleet {
  readonly #host: FleetHost;
  readonly #slots: (Running | undefined)[];
  readonly #pending = new Set<Promise<void>>();
  #incarnations = 0;
  #restarting = false;

  constructor(host: FleetHost, size: number) {
    this.#host = host;
    this.#slots = Array.from({ length: size }, () => undefined);
  }

  /** Starts all workers; resolves when they are ready. */
  async start(): Promise<void> {
    for (const slot of this.#slots.keys()) this.#spawn(slot);
    await Promise.all(this.#slots.map((running) => running?.ready));
  }

  /** Does something bad at once or starts doing it. */
  async fault(): Promise<void> {
    const kind = this.#host.random();
    const free = [...this.#slots.entries()].flatMap(([slot, running]) =>
      running !== undefined && !running.expected && !running.stopped && running.child.exitCode === null
        ? [{ slot, running }]
        : [],
    );
    if (kind < 0.35) await this.restart(between(this.#host.random, 0, 1200));
    else if (free.length === 0) return;
    else {
      const { slot, running } = pick(this.#host.random, free);
      if (kind < 0.67) this.kill(slot, running);
      else if (kind < 0.9) this.#track(this.stopFor(running, between(this.#host.random, 200, 6000)));
      else this.#drain(slot, running);
    }
  }

  /** SIGKILLs the worker of a slot and replaces it a little later. */
  kill(slot: number, running: Running): void {
    this.#track(
      this.#host.processes.kill(running).then(async () => {
        await pause(between(this.#host.random, 100, 1500));
        this.#spawn(slot);
      }),
    );
  }

  /** SIGSTOPs a worker for a while. */
  stopFor(running: Running, ms: number): Promise<void> {
    return this.#host.processes.stopFor(running, ms);
  }

  /** Restarts PostgreSQL as after a crash, down for a while. */
  async restart(downMs: number): Promise<void> {
    if (this.#restarting) return;
    this.#restarting = true;
    const from = monotonicUs();
    await this.#host.server.stopImmediate();
    await pause(downMs);
    await this.#host.server.start();
    this.#host.faults.write({ what: "restart", who: "postgres", from });
    this.#restarting = false;
  }

  /** The workers that run now, by slot. */
  get workers(): readonly { slot: number; running: Running }[] {
    return [...this.#slots.entries()].flatMap(([slot, running]) =>
      running === undefined || running.expected ? [] : [{ slot, running }],
    );
  }

  /** Resolves when every fault under way is over and every worker is back. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
    await Promise.all(this.#slots.map((running) => running?.ready));
  }

  /** Ends all workers in good order. */
  async end(): Promise<void> {
    await Promise.all(this.workers.map(({ running }) => this.#host.processes.drain(running, 10_000)));
  }

  #drain(slot: number, running: Running): void {
    this.#track(this.#host.processes.drain(running, 8000).then(() => this.#spawn(slot)));
  }

  #spawn(slot: number): void {
    const name = `w${slot}.${++this.#incarnations}`;
    const running = this.#host.processes.start("worker.ts", this.#host.orders(name));
    this.#slots[slot] = running;
    // One that ended by itself is a violation already; it is replaced so that the run can show more than that.
    void running.ended.then(() => {
      if (!running.expected && this.#slots[slot] === running) this.#spawn(slot);
    });
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#pending.delete(tracked));
    this.#pending.add(tracked);
  }
}
