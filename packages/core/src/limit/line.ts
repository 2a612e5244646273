/**
 * The line of callers that wait for one key: first come, first served, whatever they ask for; those of a higher priority
 * before those of a lower one.
 *
 * Only the head asks the store. Denied, it sleeps exactly as long as the store said and asks again, so a line costs one
 * timer and one question per admission, however long it is; and nobody small overtakes somebody big.
 *
 *     joins ──► waits ──► admitted   the head's cost was debited
 *                 ├─────► refused    the wait would outlast maxWaitMs, which is mostly known on joining
 *                 ├─────► aborted    the caller's signal fired
 *                 └─────► failed     the store failed at the head's question, or the limit was closed
 *
 * Whatever the end, the waiter leaves the line in the same turn and everybody behind it moves up.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { SluiceError } from "../base/errors.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import { type Answer, isLater } from "./store.ts";

/** Whom the lines of one limit ask. */
export interface LineSource<Answered extends Verdict> {
  /** Debits `cost` if it is admitted now. */
  ask(key: string, cost: number): Answer<Answered>;
  /** The answer to somebody who would wait behind others, with the least `retryAfterUs`: it is the last of `total`. */
  expect(key: string, total: number): Answer<Answered>;
  /** The longest the head sleeps before it asks again, in microseconds: less than it was told if others may give back. */
  readonly sleepUsMax: number;
}

/** What all lines of one limit share. */
export interface LineContext<Answered extends Verdict> {
  readonly source: LineSource<Answered>;
  readonly clock: Clock;
  /** Called after each waiter that left. */
  readonly onLeave: (line: Line<Answered>) => void;
}

/** How long, and until what, a caller will wait. */
export interface WaitOptions {
  /** Gives the place up when it fires; the wait then rejects with its reason. */
  readonly signal: AbortSignal | undefined;
  /** The longest wait, in microseconds; Infinity for no bound. */
  readonly maxWaitUs: number;
  /** Who has more stands before who has less, whenever they came. */
  readonly priority: number;
  /** Called with the least wait, in microseconds, if the caller has to wait at all. */
  readonly onWait: ((waitUs: number) => void) | undefined;
}

interface Waiter<Answered> {
  readonly cost: number;
  readonly priority: number;
  /** When it stops waiting, on the clock of the line. */
  readonly deadlineUs: number;
  readonly resolve: (verdict: Answered) => void;
  readonly reject: (reason: unknown) => void;
  settled: boolean;
  /** Forgets the deadline and the signal. */
  unwatch: () => void;
  ahead: Waiter<Answered> | undefined;
  behind: Waiter<Answered> | undefined;
}

/** One key's line. */
export class Line<Answered extends Verdict> {
  readonly key: string;
  readonly #context: LineContext<Answered>;
  #head: Waiter<Answered> | undefined;
  #tail: Waiter<Answered> | undefined;
  /** The sum over everybody in line. */
  #cost = 0;
  /** While the head sleeps. */
  #alarm: Timer | undefined;
  /** While a distant store is considering the head's question. */
  #asking: Promise<void> | undefined;
  /** While heads are being served, so that one who leaves does not start it again. */
  #serving = false;

  constructor(key: string, context: LineContext<Answered>) {
    this.key = key;
    this.#context = context;
  }

  /** Whether nobody waits any more. */
  get isEmpty(): boolean {
    return this.#head === undefined;
  }

  /**
   * Takes the last place among those of the same priority, and waits. Resolves to the verdict: allowed, unless the wait would
   * outlast its bound.
   * @param answer What the store answered, or is about to answer, to this very request: for the first in line, who has
   *   asked before there was a line.
   */
  join(cost: number, options: WaitOptions, answer?: Answer<Answered>): Promise<Answered> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter<Answered> = {
        cost,
        priority: options.priority,
        deadlineUs: this.#context.clock.nowUs() + options.maxWaitUs,
        resolve,
        reject,
        settled: false,
        unwatch: () => {},
        ahead: undefined,
        behind: undefined,
      };
      this.#enter(waiter);
      this.#watch(waiter, options);
      const isBehind = this.#head !== waiter;
      if (!isBehind) {
        this.#alarm?.cancel();
        this.#serve(answer);
      }
      if (options.onWait !== undefined || (isBehind && options.maxWaitUs < Infinity)) {
        void this.#foretell(waiter, options);
      }
    });
  }

  #enter(waiter: Waiter<Answered>): void {
    let ahead = this.#tail;
    while (ahead !== undefined && ahead.priority < waiter.priority) ahead = ahead.ahead;
    const behind = ahead === undefined ? this.#head : ahead.behind;
    waiter.ahead = ahead;
    waiter.behind = behind;
    if (ahead === undefined) this.#head = waiter;
    else ahead.behind = waiter;
    if (behind === undefined) this.#tail = waiter;
    else behind.ahead = waiter;
    this.#cost += waiter.cost;
  }

  /** Asks again for the head now, because the budget may have grown. */
  recheck(): void {
    this.#serve();
  }

  /** Turns everybody away with `reason`. */
  dissolve(reason: unknown): void {
    this.#serving = true;
    while (this.#head !== undefined) this.#fail(this.#head, reason);
    this.#serving = false;
  }

  #watch(waiter: Waiter<Answered>, { signal, maxWaitUs }: WaitOptions): void {
    const onAbort = (): void => this.#fail(waiter, signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const deadline =
      maxWaitUs < Infinity
        ? this.#context.clock.setTimer(() => void this.#lastCall(waiter), maxWaitUs)
        : undefined;
    waiter.unwatch = () => {
      signal?.removeEventListener("abort", onAbort);
      deadline?.cancel();
    };
  }

  /** Serves one head after the other, until one has to sleep, the store takes its time, or nobody is left. */
  #serve(answer?: Answer<Answered>): void {
    if (this.#serving || this.#asking !== undefined) return;
    this.#serving = true;
    this.#alarm?.cancel();
    const { source } = this.#context;
    let known = answer;
    for (let head = this.#head; head !== undefined; head = this.#head) {
      try {
        const verdict = known ?? source.ask(this.key, head.cost);
        known = undefined;
        if (isLater(verdict)) {
          this.#asking = this.#await(head, verdict);
          break;
        }
        if (!this.#take(head, verdict)) break;
      } catch (error) {
        this.#fail(head, error);
      }
    }
    this.#serving = false;
  }

  async #await(head: Waiter<Answered>, answer: PromiseLike<Answered>): Promise<void> {
    let mayGoOn = true;
    try {
      mayGoOn = this.#take(head, await answer);
    } catch (error) {
      this.#fail(head, error);
    }
    this.#asking = undefined;
    if (mayGoOn) this.#serve();
  }

  /** Hands the head its verdict. Returns whether the next in line may ask; if not, the head sleeps. */
  #take(head: Waiter<Answered>, verdict: Answered): boolean {
    // It left while a distant store was deciding. If that admitted it, the budget is spent: under-use, never over-use.
    if (head.settled) return true;
    const { clock, source } = this.#context;
    if (verdict.allowed || clock.nowUs() + verdict.retryAfterUs > head.deadlineUs) {
      this.#settle(head, verdict);
      return true;
    }
    // The store knows less capacity than this process: the limit was changed elsewhere, or parts of it are lent out.
    if (verdict.never) {
      this.#fail(head, new SluiceError("cost_exceeds_capacity", `cost ${head.cost} is never admitted`));
      return true;
    }
    // Somebody of a higher priority has come meanwhile.
    if (head !== this.#head) return true;
    this.#alarm = clock.setTimer(() => this.#serve(), Math.min(verdict.retryAfterUs, source.sleepUsMax));
    return false;
  }

  /** The deadline of a waiter: whoever is due by now is served first, perhaps it among them. */
  async #lastCall(waiter: Waiter<Answered>): Promise<void> {
    this.#serve();
    while (this.#asking !== undefined) await this.#asking;
    await this.#expect(waiter, (verdict) => this.#settle(waiter, verdict));
  }

  /** Refuses a waiter whose wait is known to outlast its bound; tells the others how long it will be at the least. */
  async #foretell(waiter: Waiter<Answered>, { maxWaitUs, onWait }: WaitOptions): Promise<void> {
    // What a distant store is about to debit for the head would be counted twice: in its answer, and as still waiting.
    while (this.#asking !== undefined && !waiter.settled) await this.#asking;
    await this.#expect(waiter, (verdict) => {
      if (verdict.retryAfterUs > maxWaitUs) this.#settle(waiter, verdict);
      else onWait?.(verdict.retryAfterUs);
    });
  }

  /** Hands on a denial with the least wait that the costs up to the waiter's own will take, if it still waits. */
  async #expect(waiter: Waiter<Answered>, then: (verdict: Answered) => void): Promise<void> {
    if (waiter.settled) return;
    try {
      const answer = this.#context.source.expect(this.key, this.#costThrough(waiter));
      const verdict = isLater(answer) ? await answer : answer;
      const retryAfterUs = Math.max(1, verdict.retryAfterUs);
      if (!waiter.settled) then({ ...verdict, allowed: false, retryAfterUs });
    } catch (error) {
      this.#fail(waiter, error);
    }
  }

  #costThrough(waiter: Waiter<Answered>): number {
    if (waiter === this.#tail) return this.#cost;
    let cost = 0;
    for (let each: Waiter<Answered> | undefined = waiter; each !== undefined; each = each.ahead)
      cost += each.cost;
    return cost;
  }

  #settle(waiter: Waiter<Answered>, verdict: Answered): void {
    waiter.resolve(verdict);
    this.#leave(waiter);
  }

  #fail(waiter: Waiter<Answered>, reason: unknown): void {
    if (waiter.settled) return;
    waiter.reject(reason);
    this.#leave(waiter);
  }

  #leave(waiter: Waiter<Answered>): void {
    waiter.settled = true;
    waiter.unwatch();
    const { ahead, behind } = waiter;
    if (ahead === undefined) this.#head = behind;
    else ahead.behind = behind;
    if (behind === undefined) this.#tail = ahead;
    else behind.ahead = ahead;
    this.#cost -= waiter.cost;
    this.#context.onLeave(this);
    // The next one may ask for less than this one did, and need not sleep as long.
    if (ahead === undefined) {
      this.#alarm?.cancel();
      this.#serve();
    }
  }
}
