/**
 * A run of the demo: starts the stand-in API and the workers, kills workers if asked to, and reports what the meter
 * saw. Nothing here takes part in the work; a worker knows no more of this process than that it is there.
 */

import type { DemoOptions } from "./arguments.ts";
import {
  type StandInProcess,
  startStandInProcess,
  startWorkerProcess,
  WorkerFailed,
  type WorkerProcess,
} from "./child-processes.ts";
import { expectedMs, type PlannedKill, planKills } from "./kill-plan.ts";
import { logLine } from "./log-line.ts";
import type { Place } from "./place.ts";
import { dataTypes, providers, queueName, rateText } from "./providers.ts";
import { buildReport, type DemoReport, type Kill } from "./report.ts";
import type { Screen } from "./screen.ts";
import type { ArrivalNotice, MeterReport } from "./stand-in/server.ts";
import type { SyncOutcome } from "./sync.ts";
import { headerLines, noteLines, type QueueStatus, statusLines } from "./table.ts";

// Longer than any honest pause: the first boot of the embedded database on a slow machine, the lease of a killed
// worker and its partition's next turn.
const idleMs = 60_000;
const statusEveryMs = 200;
// A handful of notes tells what went on; a storm of them would push everything else off the screen.
const notesMax = 20;

/** Runs the demo to its end and reports. `signal` stops it early, cleanly. */
export async function runDemo(
  options: DemoOptions,
  place: Place,
  screen: Screen,
  signal: AbortSignal,
): Promise<DemoReport> {
  const run = new DemoRun(options, place, screen);
  try {
    return await run.run(signal);
  } catch (error) {
    await run.close();
    screen.print(...noteLines(run.notes));
    // What failed on the way may hold the reason; what failed at the start holds nothing.
    if (run.begun) screen.print(`The work is kept: ${place.label}`);
    else if (!place.named) await place.remove().catch(() => {});
    throw error;
  } finally {
    await run.close();
  }
}

class DemoRun {
  readonly #options: DemoOptions;
  readonly #place: Place;
  readonly #screen: Screen;
  readonly #plan: readonly PlannedKill[];
  readonly #workers = new Map<number, WorkerProcess>();
  readonly #kills: Kill[] = [];
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #notes: string[] = [];
  readonly #seen = new Map(dataTypes.map(({ name }) => [name, { distinct: 0, refused: 0 }]));
  readonly #ended: Promise<SyncOutcome | undefined>;
  // Assigned in the executor of `#ended`, which runs at once.
  #end: (outcome: SyncOutcome | undefined) => void = () => {};
  #fail: (error: Error) => void = () => {};
  #standIn: StandInProcess | undefined;
  #idle: NodeJS.Timeout | undefined;
  #doneBefore: Readonly<Record<string, number>> | undefined;
  #firstUs: number | undefined;
  #nextArrival: ((arrival: ArrivalNotice | undefined) => void) | undefined;
  #killing: Promise<void> = Promise.resolve();
  #over = false;

  constructor(options: DemoOptions, place: Place, screen: Screen) {
    this.#options = options;
    this.#place = place;
    this.#screen = screen;
    this.#plan = options.crash ? planKills(options.requests) : [];
    this.#ended = new Promise((resolve, reject) => {
      this.#end = resolve;
      this.#fail = reject;
    });
    // An error may come before the end is awaited; it is thrown there.
    this.#ended.catch(() => {});
  }

  async run(signal: AbortSignal): Promise<DemoReport> {
    signal.addEventListener("abort", () => this.#end(undefined), { once: true });
    if (signal.aborted) this.#end(undefined);
    this.#standIn = await startStandInProcess({
      arrival: (arrival) => this.#arrived(arrival),
      cut: (cut) => this.#kills.findLast((kill) => callerName(kill.worker) === cut.caller)?.cut.push(cut),
    });
    void this.#standIn.exited.then(() => this.#fail(new Error("the stand-in API ended by itself")));
    this.#printHeader(this.#standIn.url);
    this.#expectProgress();
    this.#screen.showStatus("Starting; an embedded database takes some seconds the first time …");
    // The first worker alone: it creates what is missing and counts what an earlier run has done.
    await this.#orEnd(this.#startWorker(1));
    for (let number = 2; number <= this.#options.workers; number += 1) void this.#startWorker(number);
    const outcome = await this.#ended;
    await this.#stopWorkers();
    const meter = (await (await fetch(`${this.#standIn.url}/meter`)).json()) as MeterReport;
    return buildReport({
      engine: this.#place.store.engine,
      workers: this.#options.workers,
      killsPlanned: this.#plan.length,
      kills: this.#kills,
      expectedPerQueue: this.#expectedPerQueue,
      doneBefore: this.#doneBefore ?? {},
      meter,
      outcome,
      notes: this.#notes,
    });
  }

  /** What the workers told of the way, not more than 20 lines. */
  get notes(): readonly string[] {
    return this.#notes;
  }

  /** True once a request has reached the API. */
  get begun(): boolean {
    return this.#firstUs !== undefined;
  }

  /** Ends every process this run has started; quick when the run ended well. */
  async close(): Promise<void> {
    await this.#stopWorkers();
    await this.#standIn?.stop();
    this.#screen.showStatus();
  }

  async #stopWorkers(): Promise<void> {
    this.#over = true;
    clearTimeout(this.#idle);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#nextArrival?.(undefined);
    await this.#killing;
    await Promise.all([...this.#workers.values()].map((worker) => worker.stop()));
    this.#workers.clear();
  }

  async #orEnd(work: Promise<void>): Promise<void> {
    await Promise.race([work, this.#ended]);
  }

  /** Starts a worker process; resolves when it works. That it failed is told to the run, not to the caller. */
  #startWorker(number: number): Promise<void> {
    const { requests } = this.#options;
    const setup = {
      caller: callerName(number),
      store: this.#place.store,
      apiUrl: this.#standIn!.url,
      requests,
    };
    return new Promise((resolve) => {
      const worker = startWorkerProcess(setup, {
        working: (done) => {
          this.#expectProgress();
          if (this.#doneBefore === undefined) this.#begin(done);
          resolve();
        },
        finished: (outcome) => this.#end(outcome),
        note: (text) => {
          if (this.#notes.length < notesMax) this.#notes.push(text);
        },
        failed: (error) => this.#fail(error),
      });
      this.#workers.set(number, worker);
    });
  }

  #begin(doneBefore: Readonly<Record<string, number>>): void {
    this.#doneBefore = doneBefore;
    const done = Object.values(doneBefore).reduce((total, count) => total + count, 0);
    const expected = dataTypes.length * this.#expectedPerQueue;
    if (done > 0)
      this.#screen.print(`Continuing: ${done} of ${expected} requests were made by an earlier run.`, "");
    if (this.#screen.live) this.#timers.push(setInterval(() => this.#showStatus(), statusEveryMs));
  }

  #arrived(arrival: ArrivalNotice): void {
    this.#expectProgress();
    if (this.#firstUs === undefined) {
      this.#firstUs = arrival.atUs;
      this.#scheduleKills();
    }
    const seen = this.#seen.get(arrival.dataType)!;
    if (arrival.refused) seen.refused += 1;
    else if (!arrival.repeat) seen.distinct += 1;
    const line = logLine({
      ...arrival,
      queue: queueName(arrival.dataType),
      seconds: this.#seconds(arrival.atUs),
    });
    const remark = arrival.refused ? "  429" : arrival.repeat ? "  again" : "";
    this.#screen.print(line + this.#screen.paint(arrival.refused ? "red" : "yellow", remark));
    if (!arrival.refused) this.#nextArrival?.(arrival);
  }

  get #expectedPerQueue(): number {
    return providers.length * this.#options.requests;
  }

  #seconds(atUs: number): number {
    return (atUs - (this.#firstUs ?? atUs)) / 1e6;
  }

  #scheduleKills(): void {
    for (const [index, planned] of this.#plan.entries()) {
      const due = (): void => {
        // One at a time: a kill waits until the worker before is back.
        const number = (index % this.#options.workers) + 1;
        this.#killing = this.#killing
          .then(() => this.#kill(planned, number))
          .catch((error) => this.#fail(error));
      };
      this.#timers.push(setTimeout(due, planned.afterMs));
    }
  }

  async #kill(planned: PlannedKill, number: number): Promise<void> {
    const arrival = planned.inCall ? await this.#awaitArrival() : undefined;
    if (this.#over) return;
    const victim = arrival === undefined ? number : workerNumber(arrival.caller);
    // Both leave in this turn of the event loop: a call is in flight for some ten milliseconds only.
    const kill: Kill = { worker: victim, atUs: Number.NaN, cut: [] };
    this.#kills.push(kill);
    const marked = this.#standIn!.mark();
    const killed = this.#workers.get(victim)?.kill();
    kill.atUs = await marked;
    await killed;
    this.#printEvent(`SIGKILL of worker ${victim}`, kill.atUs);
    if (this.#over) return;
    await this.#orEnd(this.#startWorker(victim)).catch(() => {});
    kill.backUs = await this.#standIn!.mark();
    this.#printEvent(`Worker ${victim} is back`, kill.backUs);
  }

  #printEvent(text: string, atUs: number): void {
    this.#screen.print(this.#screen.paint("yellow", `${text} at ${this.#seconds(atUs).toFixed(2)} s`));
  }

  #awaitArrival(): Promise<ArrivalNotice | undefined> {
    return new Promise((resolve) => {
      this.#nextArrival = (arrival) => {
        this.#nextArrival = undefined;
        resolve(arrival);
      };
      if (this.#over) this.#nextArrival(undefined);
    });
  }

  /** Sign of life: from here, the next one has to come in time. */
  #expectProgress(): void {
    clearTimeout(this.#idle);
    if (this.#over) return;
    const error = new WorkerFailed("timeout", `nothing happened for ${idleMs / 1000} s`);
    this.#idle = setTimeout(() => this.#fail(error), idleMs);
  }

  #printHeader(apiUrl: string): void {
    const seconds = expectedMs(this.#options.requests) / 1000;
    const workflows = providers.length * dataTypes.length;
    const { requests, workers } = this.#options;
    this.#screen.print(
      ...headerLines({
        workflows,
        requests,
        workers,
        apiUrl,
        seconds,
        store: this.#place.label,
        kills: this.#plan,
      }),
    );
  }

  #showStatus(): void {
    const queues = dataTypes.map((dataType): QueueStatus => {
      const seen = this.#seen.get(dataType.name)!;
      return {
        queue: queueName(dataType),
        rate: rateText(dataType),
        done: seen.distinct + (this.#doneBefore?.[queueName(dataType)] ?? 0),
        expected: this.#expectedPerQueue,
        refused: seen.refused,
      };
    });
    this.#screen.showStatus(...statusLines(queues, this.#screen.paint));
  }
}

function callerName(worker: number): string {
  return `worker-${worker}`;
}

function workerNumber(caller: string): number {
  return Number(caller.slice("worker-".length));
}
