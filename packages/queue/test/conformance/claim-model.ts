import { expect } from "vitest";
import type { QueueRecord } from "../../src/store/task-store.ts";
import { type ExchangeAnswer, ending, type Grant, type Settlement } from "../../src/store/task-store.ts";

/** A GCRA schedule kept in whole microseconds and a remainder, one start after the other. */
interface Schedule {
  readonly numerator: number;
  readonly denominator: number;
  readonly burst: number;
  tatUs: number;
  remainder: number;
}

interface ModelTask {
  readonly id: string;
  readonly lane: number;
  seq: number;
  losses: number;
}

interface ModelLane {
  readonly waiting: ModelTask[];
  readonly schedule: Schedule | undefined;
  tail: number;
}

interface Running {
  readonly task: ModelTask;
  readonly workerId: string;
  readonly grant: Grant;
}

function slackOf({ numerator, denominator, burst }: Schedule): number {
  return Math.floor(((burst - 1) * numerator) / denominator);
}

/** The schedule as of now: time that passed unused is gone. */
function current(schedule: Schedule, nowUs: number): Schedule {
  if (schedule.tatUs >= nowUs) return { ...schedule };
  return { ...schedule, tatUs: nowUs, remainder: 0 };
}

/** Moves on by one emission interval. */
function advance(schedule: Schedule): void {
  const parts = schedule.remainder + schedule.numerator;
  schedule.tatUs += Math.floor(parts / schedule.denominator);
  schedule.remainder = parts % schedule.denominator;
}

const noTasks: ReadonlySet<ModelTask> = new Set();

/** Its worker was lost twice or more while it ran. */
function isSuspect({ losses }: ModelTask): boolean {
  return losses >= 2;
}

/** What one exchange is asked. */
export interface Asked {
  readonly workerId: string;
  readonly nowUs: number;
  readonly want: number;
  readonly chain: number;
  readonly most: number;
  readonly horizonUs: number;
  readonly leadUs: number;
  readonly patienceUs: number;
  readonly suspect: boolean;
  readonly settlements: readonly Settlement[];
}

/**
 * What a queue has to do, one task after the other and without SQL. It is told each request and each answer, and holds the answer
 * to the rules: first in, first out in a lane; slots; starts exactly on schedule; nothing kept back that could start.
 */
export class ClaimModel {
  readonly running = new Map<number, Running>();
  readonly lanes: readonly ModelLane[];
  readonly #queue: QueueRecord;
  readonly #exact: boolean;
  readonly #timers: { task: ModelTask; dueUs: number }[] = [];
  #limit: Schedule | undefined;
  #laneOfId = new Map<number, number>();

  /** @param exact Whether starts are those of the schedule to the microsecond; else they are only held to come in order. */
  constructor(queue: QueueRecord, laneCount: number, exact: boolean) {
    this.#queue = queue;
    this.#exact = exact;
    const fresh = { tatUs: 0, remainder: 0 };
    this.#limit = queue.limit && { ...queue.limit, ...fresh };
    this.lanes = Array.from({ length: laneCount }, () => ({
      waiting: [],
      tail: 0,
      schedule: queue.lanePace && { ...queue.lanePace, ...fresh },
    }));
  }

  get waiting(): readonly ModelTask[] {
    return this.lanes.flatMap((lane) => lane.waiting);
  }

  enqueue(lane: number, id: string): void {
    const target = this.lanes[lane]!;
    target.waiting.push({ id, lane, seq: ++target.tail, losses: 0 });
  }

  cancel(task: ModelTask): void {
    const { waiting } = this.lanes[task.lane]!;
    waiting.splice(waiting.indexOf(task), 1);
  }

  /** A worker is gone: what it ran waits again, in its old place. */
  lose(workerId: string, nowUs: number): void {
    for (const [fence, run] of this.running) {
      if (run.workerId !== workerId) continue;
      this.running.delete(fence);
      if (run.grant.startUs <= nowUs) run.task.losses++;
      this.#takeBack(run.task);
    }
  }

  /** Checks one answer and moves on. */
  exchanged(asked: Asked, answer: ExchangeAnswer): void {
    const suspects = asked.suspect ? this.#suspectsThatMayStart() : noTasks;
    this.#settle(asked);
    if (asked.want > 0) this.#promote(asked.nowUs);
    this.#checkStarts(asked, answer.grants);
    const before = this.lanes.map((_, index) => this.#runningIn(index));
    for (const grant of answer.grants) this.#grant(asked, grant);
    this.#checkSuspects(asked, answer.grants);
    this.#checkSlots(asked, answer.grants.length, { before, suspects });
    this.#checkWake(asked, answer);
  }

  /** True if tasks of one lane start in order whatever happens: then nothing is passed over. */
  get #ordered(): boolean {
    return this.#queue.laneConcurrency === 1 || this.#queue.concurrency === 1;
  }

  /** Those a claim that may take a suspect has to choose from. */
  #suspectsThatMayStart(): ReadonlySet<ModelTask> {
    const { laneConcurrency = Number.POSITIVE_INFINITY } = this.#queue;
    const open = this.lanes.filter((_, index) => this.#runningIn(index) < laneConcurrency);
    const next = open.flatMap(({ waiting }) => (this.#ordered ? waiting.slice(0, 1) : waiting));
    return new Set(next.filter(isSuspect));
  }

  /** At most one, only if it was asked for, and with nothing of its serial partition behind it. */
  #checkSuspects({ suspect }: Asked, grants: readonly Grant[]): void {
    const granted = grants.filter((grant) => grant.suspect);
    expect(granted.length).toBeLessThanOrEqual(suspect ? 1 : 0);
    if (this.#queue.laneConcurrency !== 1) return;
    for (const { lane } of granted) expect(grants.filter((grant) => grant.lane === lane)).toHaveLength(1);
  }

  #settle({ settlements, nowUs }: Asked): void {
    for (const { fence, kind, delayUs } of settlements) {
      const run = this.running.get(fence);
      if (run === undefined) continue;
      this.running.delete(fence);
      if (kind === ending.givenBack) this.#takeBack(run.task);
      if (kind === ending.retry || kind === ending.deferred)
        this.#timers.push({ task: run.task, dueUs: nowUs + delayUs });
    }
  }

  #takeBack(task: ModelTask): void {
    const { waiting } = this.lanes[task.lane]!;
    const place = waiting.findIndex((other) => other.seq > task.seq);
    waiting.splice(place < 0 ? waiting.length : place, 0, task);
  }

  #promote(nowUs: number): void {
    const due = this.#timers.filter((timer) => timer.dueUs <= nowUs);
    due.sort((a, b) => a.dueUs - b.dueUs || (a.task.id < b.task.id ? -1 : 1));
    for (const timer of due) {
      this.#timers.splice(this.#timers.indexOf(timer), 1);
      const lane = this.lanes[timer.task.lane]!;
      timer.task.seq = ++lane.tail;
      lane.waiting.push(timer.task);
    }
  }

  /** Starts are those of GCRA, the queue's after each partition's own. */
  #checkStarts({ nowUs, leadUs, horizonUs }: Asked, grants: readonly Grant[]): void {
    const from = nowUs + leadUs;
    const limit = this.#limit && current(this.#limit, from);
    const lanes = new Map<number, Schedule>();
    for (const grant of grants) {
      const lane = this.#laneIndex(grant);
      const own =
        lanes.get(lane) ?? (this.lanes[lane]!.schedule && current(this.lanes[lane]!.schedule, from));
      const earliest = own === undefined ? from : Math.max(from, own.tatUs - slackOf(own));
      const start = limit === undefined ? earliest : Math.max(earliest, limit.tatUs - slackOf(limit));
      if (this.#exact) expect(grant.startUs).toBe(start);
      expect(grant.startUs).toBeGreaterThanOrEqual(start);
      expect(grant.startUs).toBeLessThanOrEqual(from + horizonUs);
      if (limit !== undefined) {
        // A lane that was late: time passed unused for the queue as well.
        limit.tatUs = Math.max(limit.tatUs, earliest) + grant.startUs - start;
        advance(limit);
      }
      if (own !== undefined) {
        advance(own);
        if (limit !== undefined)
          own.tatUs = Math.max(own.tatUs, grant.startUs + Math.ceil(own.numerator / own.denominator));
        lanes.set(lane, own);
      }
    }
    if (limit !== undefined && grants.length > 0) this.#limit = limit;
    for (const [lane, own] of lanes) Object.assign(this.lanes[lane]!.schedule!, own);
  }

  #grant({ workerId }: Asked, grant: Grant): void {
    const lane = this.lanes[this.#laneIndex(grant)]!;
    // Only a suspect that was asked for may start; the others are passed over, unless that would change the order.
    const expected = lane.waiting.find((task) =>
      grant.suspect && !this.#ordered ? task.id === grant.taskId : this.#ordered || !isSuspect(task),
    );
    expect(grant.taskId).toBe(expected?.id);
    expect(grant.suspect).toBe(isSuspect(expected!));
    const fences = [...this.running.keys()];
    expect(fences).not.toContain(grant.fence);
    lane.waiting.splice(lane.waiting.indexOf(expected!), 1);
    this.running.set(grant.fence, { task: expected!, workerId, grant });
  }

  #laneIndex(grant: Grant): number {
    const lane = Number(grant.partition);
    const known = this.#laneOfId.get(grant.lane) ?? lane;
    expect(known).toBe(lane);
    this.#laneOfId.set(grant.lane, lane);
    return lane;
  }

  #runningIn(lane: number): number {
    return [...this.running.values()].filter(({ task }) => task.lane === lane).length;
  }

  /** When some task may start as far as time is concerned; undefined when slots or tasks are lacking. */
  #nextStart(fromUs: number, suspects: ReadonlySet<ModelTask>): number | undefined {
    const { concurrency, laneConcurrency } = this.#queue;
    if (concurrency !== undefined && this.running.size >= concurrency) return undefined;
    const starts = this.lanes.flatMap((lane, index) => {
      const next = this.#ordered ? lane.waiting.slice(0, 1) : lane.waiting;
      if (!next.some((task) => !isSuspect(task) || suspects.has(task))) return [];
      if (laneConcurrency !== undefined && this.#runningIn(index) >= laneConcurrency) return [];
      const all = [lane.schedule, this.#limit].filter((schedule) => schedule !== undefined);
      return [Math.max(fromUs, ...all.map((schedule) => schedule.tatUs - slackOf(schedule)))];
    });
    return starts.length === 0 ? undefined : Math.min(...starts);
  }

  #checkSlots(
    { nowUs, want, chain, most, horizonUs }: Asked,
    granted: number,
    { before, suspects }: { readonly before: readonly number[]; readonly suspects: ReadonlySet<ModelTask> },
  ): void {
    const { concurrency, laneConcurrency } = this.#queue;
    // What a serial partition has in line goes to one worker, which runs it one after another.
    const chained = laneConcurrency === 1 && concurrency === undefined ? chain : 1;
    expect(granted).toBeLessThanOrEqual(Math.min(most, want * chained));
    if (granted > 0 && concurrency !== undefined) expect(this.running.size).toBeLessThanOrEqual(concurrency);
    for (const [index] of this.lanes.entries()) {
      if (laneConcurrency === undefined) continue;
      const free =
        before[index]! >= laneConcurrency ? 0 : Math.max(chained, laneConcurrency - before[index]!);
      expect(this.#runningIn(index) - before[index]!).toBeLessThanOrEqual(free);
    }
    if (granted > 0 || want === 0 || most === 0 || !this.#exact) return;
    const next = this.#nextStart(nowUs, suspects);
    // Lanes are chosen by the horizon from now, whatever the lead.
    if (next !== undefined) expect(next).toBeGreaterThan(nowUs + horizonUs);
  }

  /** A worker that is told nothing would sleep through the next start. */
  #checkWake({ nowUs }: Asked, answer: ExchangeAnswer): void {
    const due = this.#timers.map((timer) => timer.dueUs);
    expect(answer.timerUs).toBe(due.length === 0 ? undefined : Math.min(...due));
    if (!this.#exact) return;
    const next = this.#nextStart(nowUs, noTasks);
    if (next !== undefined) expect(answer.laneUs).toBeLessThanOrEqual(next);
    // Nobody tells when another worker may take a suspect.
    const held = this.#nextStart(nowUs, this.#suspectsThatMayStart());
    if (held !== undefined) expect(answer.laneUs).toBeLessThanOrEqual(Math.max(held, nowUs + 250_000));
  }
}
