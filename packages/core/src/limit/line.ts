/**
 * The line of callers that wait for one key: first come, first served, whatever they ask for.
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
import { rateWaitBound } from "./algorithms/policy.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import { type Decision, decisionOf } from "./decision.ts";
import type { LimitRule, LimitStore } from "./store.ts";

/** What all lines of one limit share. */
export interface LineContext {
  readonly rule: LimitRule;
  readonly store: LimitStore;
  readonly clock: Clock;
  /** Called after each waiter that left. */
  readonly onLeave: (line: Line) => void;
}

/** How long, and until what, a caller will wait. */
export interface WaitOptions {
  /** Gives the place up when it fires; the wait then rejects with its reason. */
  readonly signal: AbortSignal | undefined;
  /** The longest wait, in microseconds; Infinity for no bound. */
  readonly maxWaitUs: number;
}

interface Waiter {
  readonly cost: number;
  /** When it stops waiting, on the clock of the line. */
  readonly deadlineUs: number;
  readonly resolve: (decision: Decision) => void;
  readonly reject: (reason: unknown) => void;
  settled: boolean;
  /** Forgets the deadline and the signal. */
  unwatch: () => void;
  ahead: Waiter | undefined;
  behind: Waiter | undefined;
}

/** A store's answer, at once or later. */
type Answer = Verdict | PromiseLike<Verdict>;

/** One key's line. */
export class Line {
  readonly key: string;
  readonly #context: LineContext;
  #head: Waiter | undefined;
  #tail: Waiter | undefined;
  /** The sum over everybody in line. */
  #cost = 0;
  /** While the head sleeps. */
  #alarm: Timer | undefined;
  /** While a distant store is considering the head's question. */
  #asking: Promise<void> | undefined;
  /** While heads are being served, so that one who leaves does not start it again. */
  #serving = false;

  constructor(key: string, context: LineContext) {
    this.key = key;
    this.#context = context;
  }

  /** Whether nobody waits any more. */
  get isEmpty(): boolean {
    return this.#head === undefined;
  }

  /**
   * Takes the last place and waits.
   * @param answer What the store answered, or is about to answer, to this very request: for the first in line, who has
   *   asked before there was a line.
   */
  join(cost: number, options: WaitOptions, answer?: Answer): Promise<Decision> {
    return new Promise((resolve, reject) => {
      const deadlineUs = this.#context.clock.nowUs() + options.maxWaitUs;
      const links = { ahead: this.#tail, behind: undefined };
      const waiter: Waiter = {
        cost,
        deadlineUs,
        resolve,
        reject,
        settled: false,
        unwatch: () => {},
        ...links,
      };
      if (this.#tail === undefined) this.#head = waiter;
      else this.#tail.behind = waiter;
      this.#tail = waiter;
      this.#cost += cost;
      this.#watch(waiter, options);
      if (this.#head === waiter) this.#serve(answer);
      else if (deadlineUs < Infinity) void this.#refuseIf(waiter, (waitUs) => waitUs > options.maxWaitUs);
    });
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

  #watch(waiter: Waiter, { signal, maxWaitUs }: WaitOptions): void {
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
  #serve(answer?: Answer): void {
    if (this.#serving || this.#asking !== undefined) return;
    this.#serving = true;
    this.#alarm?.cancel();
    const { rule, store } = this.#context;
    let known = answer;
    for (let head = this.#head; head !== undefined; head = this.#head) {
      try {
        const verdict = known ?? store.consume(rule, this.key, head.cost);
        known = undefined;
        if ("then" in verdict) {
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

  async #await(head: Waiter, answer: PromiseLike<Verdict>): Promise<void> {
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
  #take(head: Waiter, verdict: Verdict): boolean {
    // It left while a distant store was deciding. If that admitted it, the budget is spent: under-use, never over-use.
    if (head.settled) return true;
    const { clock } = this.#context;
    if (verdict.allowed || clock.nowUs() + verdict.retryAfterUs > head.deadlineUs) {
      this.#settle(head, verdict);
      return true;
    }
    this.#alarm = clock.setTimer(() => this.#serve(), verdict.retryAfterUs);
    return false;
  }

  /** The deadline of a waiter: whoever is due by now is served first, perhaps it among them. */
  async #lastCall(waiter: Waiter): Promise<void> {
    this.#serve();
    while (this.#asking !== undefined) await this.#asking;
    if (!waiter.settled) await this.#refuseIf(waiter, () => true);
  }

  /** Refuses a waiter if `test` holds for the least wait that the costs up to its own will take. */
  async #refuseIf(waiter: Waiter, test: (waitUs: number) => boolean): Promise<void> {
    const { rule, store } = this.#context;
    try {
      const { probe, extraUs } = rateWaitBound(this.#costThrough(waiter), rule.policy);
      const verdict = await store.peek(rule, this.key, probe);
      const retryAfterUs = Math.max(1, verdict.retryAfterUs + extraUs);
      if (!waiter.settled && test(retryAfterUs)) {
        this.#settle(waiter, { ...verdict, allowed: false, retryAfterUs });
      }
    } catch (error) {
      this.#fail(waiter, error);
    }
  }

  #costThrough(waiter: Waiter): number {
    if (waiter === this.#tail) return this.#cost;
    let cost = 0;
    for (let each: Waiter | undefined = waiter; each !== undefined; each = each.ahead) cost += each.cost;
    return cost;
  }

  #settle(waiter: Waiter, verdict: Verdict): void {
    waiter.resolve(decisionOf(verdict, this.#context.rule.name, this.key, waiter.cost));
    this.#leave(waiter);
  }

  #fail(waiter: Waiter, reason: unknown): void {
    if (waiter.settled) return;
    waiter.reject(reason);
    this.#leave(waiter);
  }

  #leave(waiter: Waiter): void {
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
