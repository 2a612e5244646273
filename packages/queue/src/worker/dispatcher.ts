import { type Clock, isSluiceError, type Timer } from "@sluice/core";
import {
  type ExchangeAnswer,
  ending,
  type Grant,
  type Settlement,
  type TaskStore,
} from "../store/task-store.ts";
import type { Attempt, AttemptEnd } from "./attempt.ts";
import type { AttemptRef } from "./events.ts";
import type { Slots } from "./slots.ts";
import { Starter } from "./starter.ts";
import type { LocalSpan, StoreClock } from "./store-clock.ts";
import { Suspects, type SuspectTurn, type SuspectTurns } from "./suspects.ts";

/** A queue as a worker serves it. */
export interface ServedQueue {
  readonly id: number;
  readonly name: string;
  /** Set when starts are limited by a rate: how late one may be, how much later at most while the limit is idle, and how many fit
   * into one horizon. */
  readonly paced:
    | { readonly latenessUs: number; readonly patienceUsMax: number; readonly perHorizon: number }
    | undefined;
  /**
   * Claims under way at once. One, where a second would only wait for the locks of the first; two, where what ends frees
   * slots of its partition, so that each exchange refills what it freed.
   */
  readonly claimsMax: number;
  /** True if each partition runs one task at a time: several may be claimed at once, to be run one after another. */
  readonly serial: boolean;
}

/** What a dispatcher needs of its worker. */
export interface DispatchHost {
  readonly clock: Clock;
  readonly store: TaskStore;
  readonly storeClock: StoreClock;
  readonly slots: Slots;
  readonly suspects: SuspectTurns;
  readonly workerId: string;
  readonly horizonUs: number;
  readonly pollUs: number;
  readonly deadlineMs: number;
  /** A number from 0 to 1, for jitter. */
  chance(): number;
  /** Whether the worker's lease surely holds at a local instant. */
  holdsLease(nowUs: number): boolean;
  /** Starts the attempt; undefined when the worker has no handler for it. */
  begin(
    queue: ServedQueue,
    grant: Grant,
  ): { readonly attempt: Attempt; readonly end: Promise<AttemptEnd> } | undefined;
  ended(attempt: Attempt, end: AttemptEnd): void;
  late(task: AttemptRef, byUs: number): void;
  stale(queue: ServedQueue, taskId: string, fence: number): void;
  workerGone(): void;
  storeFailed(error: unknown, during: string): void;
}

/** What an exchange asked for. */
interface Asked {
  readonly count: number;
  readonly turn: SuspectTurn | undefined;
}

/** Most tasks one exchange claims or ends. */
const batchMax = 500;
/** What it shrinks to while grants come too late. */
const batchMin = 20;
/** Exchanges of one queue under way at once: while the store works on one, the next fills. */
const exchangesMax = 2;
/** An unpaced queue claims ahead of its free slots what it gets through in this time, so that slots never wait for the store. */
const prefetchUs = 20_000;
const prefetchMax = 1000;
/** Rest after a claim that brought nothing although there seemed to be something. */
const emptyRestUs = 2_000;
/** How much the newest answer counts in what answers take. A rare slow one makes a few grants late; all later ones would wait for it. */
const answerWeight = 1 / 8;
/** The share of a grant's time that has passed when it gets here, as far as answers take what they usually take. */
const earlyShare = 0.25;
/** What the first answer is taken to take: a connection plans every statement when it first runs it. */
const firstAnswerUs = 20_000;
const anyTime: LocalSpan = { fromUs: Number.NEGATIVE_INFINITY, untilUs: Number.POSITIVE_INFINITY };
const failureRestUs = { min: 20_000, max: 1_000_000 };
/** Most tasks of one serial partition that are claimed at once. */
const chainMax = 16;

/**
 * Serves one queue in one worker: claims what may start, starts it on time, and reports how it ended, all through
 * exchanges with the store.
 *
 * When it asks: at once when something ended, when woken, or when slots became free while more was known to wait;
 * half a horizon before the next start the schedule allows (with jitter, so that workers spread); when a timer is due; and
 * every poll interval whatever else happens. After a failed exchange it rests, keeps what ended, and says it again.
 */
export class Dispatcher {
  readonly queue: ServedQueue;
  readonly #host: DispatchHost;
  readonly #starter: Starter;
  readonly #suspects: Suspects;
  #settlements: Settlement[] = [];
  /** Fences whose end was sent in an exchange without answer: finding them stale later proves nothing. */
  readonly #uncertain = new Set<number>();
  #exchanges = 0;
  #claims = 0;
  #most = batchMax;
  #lates = 0;
  #dueUs = 0;
  #restUntilUs = 0;
  #failures = 0;
  /** How long an answer takes from the store's reading of its clock, smoothed. */
  #answerUs = firstAnswerUs;
  #stopping = false;
  #generation = 0;
  #throughput = 0;
  #measuredAtUs = 0;
  #endedSince = 0;
  #pumpTimer: Timer | undefined;
  #pumpQueued = false;
  #onIdle: (() => void) | undefined;

  constructor(host: DispatchHost, queue: ServedQueue) {
    this.#host = host;
    this.queue = queue;
    this.#suspects = new Suspects(host.suspects, () => this.wake());
    this.#starter = new Starter({
      clock: host.clock,
      slots: host.slots,
      paced: queue.paced !== undefined,
      serial: queue.serial,
      holdsLease: (nowUs) => host.holdsLease(nowUs),
      begin: (grant) => host.begin(queue, grant),
      ended: (attempt, end) => host.ended(attempt, end),
      late: ({ taskId: id, partition, name, attempt, fence }, byUs) => {
        this.#lates++;
        host.late({ id, queue: queue.name, partition, name, attempt, fence }, byUs);
      },
      settle: (settlement) => this.#settle(settlement),
      forget: ({ fence }) => this.#ended(fence),
      idle: () => this.#pump(),
    });
  }

  /** Fences this dispatcher holds: granted, running or ended but not yet recorded. For the worker's reckoning with the store. */
  readonly fences: Set<number> = new Set();

  start(): void {
    this.#pump();
  }

  /** There may be something to start. */
  wake(): void {
    this.#dueUs = 0;
    this.#pump();
  }

  /** Ends a lease this worker holds but knows nothing of: the answer that granted it never arrived. */
  disown(taskId: string, fence: number, lane: number): void {
    this.#settle({ taskId, fence, lane, kind: ending.givenBack, body: null, delayUs: 0 });
  }

  /** A task was cancelled: if it is granted and has not started, it goes back, which ends it. */
  cancel(taskId: string): void {
    this.#starter.giveBack(taskId);
  }

  /** The worker's lease is gone: what was granted or ended under it is no longer ours. */
  drop(): void {
    this.#generation++;
    this.#starter.drop();
    for (const { taskId, fence, kind } of this.#settlements.splice(0)) {
      this.#ended(fence);
      if (kind !== ending.givenBack) this.#host.stale(this.queue, taskId, fence);
    }
    this.#suspects.drop();
    this.#dueUs = 0;
    this.#queuePump();
  }

  /** Nothing is held under this fence any more. */
  #ended(fence: number): void {
    this.fences.delete(fence);
    this.#suspects.ended(fence);
  }

  /** Claims nothing more and gives back what has not started. */
  stop(): void {
    this.#stopping = true;
    this.#starter.giveBack();
    this.#pump();
  }

  /** Resolves when everything that ended is recorded. */
  flushed(): Promise<void> {
    return new Promise((resolve) => {
      this.#onIdle = resolve;
      this.#checkIdle();
    });
  }

  /** Ends all timers. After this nothing more is sent. */
  close(): void {
    this.#stopping = true;
    this.#settlements = [];
    this.#pumpTimer?.cancel();
    this.#starter.close();
  }

  #checkIdle(): void {
    if (this.#exchanges === 0 && this.#settlements.length === 0) this.#onIdle?.();
  }

  #settle(settlement: Settlement): void {
    this.#settlements.push(settlement);
    this.#queuePump();
  }

  /** Pumps once at the end of this turn of the event loop, so that what ends together is told together. */
  #queuePump(): void {
    if (this.#pumpQueued) return;
    this.#pumpQueued = true;
    setImmediate(() => {
      this.#pumpQueued = false;
      this.#pump();
    });
  }

  #want(): number {
    if (
      this.#stopping ||
      this.#claims >= this.queue.claimsMax ||
      !this.#host.holdsLease(this.#host.clock.nowUs())
    )
      return 0;
    const { free } = this.#host.slots;
    if (this.queue.paced !== undefined) return Math.min(batchMax, free, this.queue.paced.perHorizon);
    const ahead = Math.min(prefetchMax, Math.ceil(this.#throughput * prefetchUs));
    return Math.max(0, Math.min(batchMax, free + ahead - this.#starter.waiting));
  }

  /** Fewer at a time while grants come too late to be used: a large claim takes long to answer and to start. */
  #adaptBatch(): void {
    this.#most = this.#lates > 0 ? Math.max(batchMin, this.#most * 0.7) : Math.min(batchMax, this.#most + 5);
    this.#lates = 0;
  }

  /** How many tasks of a serial partition to claim at once: as many as run within the time a start may be late, or the prefetch. */
  #chain(): number {
    if (!this.queue.serial) return 1;
    const budgetUs = this.queue.paced === undefined ? prefetchUs : this.queue.paced.latenessUs / 2;
    return Math.max(1, Math.min(chainMax, Math.floor(budgetUs / this.#starter.handlerUs)));
  }

  #pump(): void {
    this.#pumpTimer?.cancel();
    if (this.#exchanges >= exchangesMax) return;
    const now = this.#host.clock.nowUs();
    if (now < this.#restUntilUs) {
      this.#arm(this.#restUntilUs - now);
      return;
    }
    const due = now >= this.#dueUs;
    const want = due || this.#settlements.length > 0 ? this.#want() : 0;
    if (this.#settlements.length === 0 && (want === 0 || !due)) {
      if (due && want === 0 && !this.#stopping && this.#claims === 0) this.#starter.awaitSlot();
      this.#arm(Math.min(due ? Number.POSITIVE_INFINITY : this.#dueUs - now, this.#pollDelayUs()));
      return;
    }
    // A second exchange at once pays only when it has much to say.
    if (this.#exchanges > 0 && this.#settlements.length < 16 && (!due || want === 0)) return;
    void this.#exchange(this.#settlements.splice(0, batchMax), want);
    if (this.#settlements.length > 0) this.#queuePump();
  }

  #arm(delayUs: number): void {
    this.#pumpTimer?.cancel();
    if (this.#stopping && this.#settlements.length === 0) return;
    this.#pumpTimer = this.#host.clock.setTimer(() => {
      // The poll is a backstop: it asks whatever is thought to be known.
      if (this.#host.clock.nowUs() < this.#dueUs) this.#dueUs = 0;
      this.#pump();
    }, delayUs);
  }

  #pollDelayUs(): number {
    return this.#host.pollUs * (0.75 + 0.5 * this.#host.chance());
  }

  async #exchange(settlements: Settlement[], want: number): Promise<void> {
    const { clock, store, slots } = this.#host;
    const paced = this.queue.paced !== undefined;
    const reserved = paced ? slots.take(want) : 0;
    const asking = paced ? reserved : want;
    const generation = this.#generation;
    const turn = asking > 0 ? this.#suspects.ask() : undefined;
    this.#exchanges++;
    if (asking > 0) {
      this.#claims++;
      this.#dueUs = Number.POSITIVE_INFINITY;
    }
    const sentUs = clock.nowUs();
    let kept = 0;
    try {
      const answer = await store.exchange({
        queueId: this.queue.id,
        workerId: this.#host.workerId,
        settlements,
        want: asking,
        chain: this.#chain(),
        most: Math.floor(this.#most),
        horizonUs: this.#host.horizonUs,
        leadUs: this.#leadUs(),
        patienceUs: this.#patienceUs(),
        suspect: turn !== undefined,
        deadlineMs: this.#host.deadlineMs,
      });
      const receivedUs = clock.nowUs();
      this.#host.storeClock.observe(sentUs, receivedUs, answer.nowUs);
      const tookUs = receivedUs - this.#host.storeClock.earliest(answer.nowUs);
      this.#answerUs += (tookUs - this.#answerUs) * answerWeight;
      if (generation === this.#generation) kept = this.#accept(answer, settlements, { count: asking, turn });
      else this.#forsake(answer, settlements, turn);
    } catch (error) {
      turn?.end();
      if (generation === this.#generation) this.#failed(error, settlements);
    } finally {
      this.#exchanges--;
      if (asking > 0) this.#claims--;
      if (reserved > kept) slots.release(reserved - kept);
      this.#pump();
      this.#checkIdle();
    }
  }

  /**
   * How far after the store's now the first start shall lie: as much as brings grants here early in the time they may be
   * used. It never exceeds what answers take, so it makes nobody wait.
   */
  #leadUs(): number {
    const { paced } = this.queue;
    if (paced === undefined) return 0;
    const leadUs = this.#answerUs - earlyShare * paced.latenessUs;
    return Math.round(Math.min(Math.max(leadUs, 0), this.#host.horizonUs / 2));
  }

  /** Answers vary by as much as they take: if twice that is more than a grant's time, more is asked for. */
  #patienceUs(): number {
    const { paced } = this.queue;
    if (paced === undefined || 2 * this.#answerUs < paced.latenessUs) return 0;
    return Math.round(Math.min(4 * this.#answerUs, paced.patienceUsMax));
  }

  /** Takes in an answer; returns how many reserved slots its grants keep. */
  #accept(answer: ExchangeAnswer, settlements: readonly Settlement[], asked: Asked): number {
    this.#failures = 0;
    for (const { fence } of settlements) this.#ended(fence);
    if (answer.stale.length > 0) this.#tellStale(answer.stale, settlements);
    if (answer.workerGone) this.#host.workerGone();
    this.#measure(settlements.length);
    if (asked.count > 0) {
      this.#adaptBatch();
      this.#suspects.heard(answer, asked.turn);
    }
    this.#schedule(answer, asked.count);
    for (const grant of answer.grants) this.fences.add(grant.fence);
    const { paced } = this.queue;
    const grants = answer.grants.map((grant) => ({
      grant,
      span:
        paced === undefined
          ? anyTime
          : this.#spanOf(grant, paced.latenessUs + answer.patienceUs, answer.nowUs),
    }));
    if (!this.#stopping) return this.#starter.accept(grants);
    for (const { grant } of grants) {
      this.#settle({
        taskId: grant.taskId,
        fence: grant.fence,
        lane: grant.lane,
        kind: ending.givenBack,
        body: null,
        delayUs: 0,
      });
    }
    return 0;
  }

  /** An answer to a lease that is gone by now: its grants are not ours. */
  #forsake(answer: ExchangeAnswer, settlements: readonly Settlement[], turn: SuspectTurn | undefined): void {
    turn?.end();
    this.#tellStale(answer.stale, settlements);
  }

  /** A grant's start and end here. What the store's clock had reached when it answered has surely come. */
  #spanOf(grant: Grant, latenessUs: number, storeNowUs: number): LocalSpan {
    const span = this.#host.storeClock.spanOf(grant.startUs, latenessUs);
    return grant.startUs > storeNowUs
      ? span
      : { fromUs: Math.min(span.fromUs, this.#host.clock.nowUs()), untilUs: span.untilUs };
  }

  #tellStale(stale: readonly string[], settlements: readonly Settlement[]): void {
    const ids = new Set(stale);
    for (const { taskId, fence } of settlements) {
      if (ids.has(taskId) && !this.#uncertain.delete(fence)) this.#host.stale(this.queue, taskId, fence);
    }
  }

  /** When to ask next. */
  #schedule(answer: ExchangeAnswer, asked: number): void {
    const now = this.#host.clock.nowUs();
    let due = Number.POSITIVE_INFINITY;
    if (answer.timerUs !== undefined) due = this.#host.storeClock.spanOf(answer.timerUs, 0).fromUs;
    if (answer.laneUs !== undefined) {
      const lead =
        this.queue.paced === undefined ? 0 : this.#host.horizonUs * (0.5 - 0.25 * this.#host.chance());
      due = Math.min(due, this.#host.storeClock.earliest(answer.laneUs) - lead);
    }
    if (answer.grants.length === 0 && asked > 0) due = Math.max(due, now + emptyRestUs);
    this.#dueUs = Math.min(this.#dueUs, due);
  }

  #failed(error: unknown, settlements: readonly Settlement[]): void {
    this.#failures++;
    const rest = Math.min(failureRestUs.max, failureRestUs.min * 2 ** (this.#failures - 1));
    this.#restUntilUs = this.#host.clock.nowUs() + rest * (0.5 + 0.5 * this.#host.chance());
    this.#dueUs = 0;
    if (!isSluiceError(error, "store_conflict"))
      for (const { fence } of settlements) this.#uncertain.add(fence);
    this.#settlements = [...settlements, ...this.#settlements];
    this.#host.storeFailed(error, `exchange of queue ${this.queue.name}`);
  }

  /** Tasks ended per microsecond, smoothed. */
  #measure(ended: number): void {
    this.#endedSince += ended;
    const now = this.#host.clock.nowUs();
    const span = now - this.#measuredAtUs;
    if (span < 5_000) return;
    const current = this.#endedSince / span;
    this.#throughput = this.#throughput === 0 ? current : (this.#throughput + current) / 2;
    this.#measuredAtUs = now;
    this.#endedSince = 0;
  }
}
