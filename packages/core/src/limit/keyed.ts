import type { Feedback, FeedbackOptions } from "../feedback/read-feedback.ts";
import { type AcquireOptions, asWanted, readWaitTerms, type TryOptions } from "./acquire-options.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import { Budget, type Reply, type Timing } from "./budget.ts";
import { type Decision, RateLimitExceeded } from "./decision.ts";
import { isCost } from "./gate.ts";
import { Reservation } from "./reservation.ts";
import { type Answer, whenAnswered } from "./store.ts";

/**
 * A limit as one key sees it. Keys of a limit share its rule and nothing else: each has the whole budget to itself.
 *
 * With a store at hand (the default), every method answers at once and throws; with one far away it returns a promise and
 * rejects. `acquire` and `observe` return promises always. Errors of all of them: `invalid_cost` unless a cost is a whole
 * number of at least 1, and `closed` after the limit was closed. A denial is never thrown, unless asked for.
 */
export class KeyedLimit<When extends Timing = Timing> extends Budget<When> {
  /**
   * Takes `cost` now, or is denied now. Does not queue, and does not stand back for those who wait in `acquire`.
   * A cost above the capacity is denied with `never`.
   * @throws `rate_limited` on a denial, with `{ throws: true }`.
   */
  tryAcquire(cost: number = 1, options?: TryOptions): Reply<When, Decision> {
    const { table } = this.gate;
    if (table !== undefined && !table.isRetired && options === undefined && isCost(cost)) {
      return table.decide(this.key, cost) as Reply<When, Decision>;
    }
    const answer = this.gate.decide(this.key, cost);
    if (options === undefined) return answer as Reply<When, Decision>;
    return whenAnswered(answer, (decision) => asWanted(decision, options)) as Reply<When, Decision>;
  }

  /**
   * Waits until `cost` is admitted: first come, first served among the callers of this process that wait for the same key.
   *
   * @returns The decision: `allowed`, unless `maxWaitMs` said not to wait so long.
   * @throws `cost_exceeds_capacity` when it could never be admitted; `too_many_waiters` when the bound of the limit is
   *   reached; the signal's reason when it fires; `rate_limited` when `maxWaitMs` is too short, with `{ throws: true }`.
   *
   * @example
   *     await github.acquire();
   *     const decision = await github.acquire(5, { maxWaitMs: 2000, signal: AbortSignal.timeout(5000) });
   */
  async acquire(cost: number = 1, options?: AcquireOptions): Promise<Decision> {
    const terms = readWaitTerms(options);
    const decision = this.gate.dress(await this.gate.wait(this.key, cost, terms), this.key, cost);
    if (terms.throws && !decision.allowed) throw new RateLimitExceeded(decision);
    return decision;
  }

  /**
   * Takes `cost` now, or is denied now, and lets the debit be corrected later: to what was used, or to nothing. With
   * options it waits for it as `acquire` does.
   */
  reserve(cost?: number): Reply<When, Reservation<When>>;
  reserve(cost: number, options: AcquireOptions): Promise<Reservation<When>>;
  reserve(
    cost: number = 1,
    options?: AcquireOptions,
  ): Reply<When, Reservation<When>> | Promise<Reservation<When>> {
    if (options !== undefined) return this.#reserveWaiting(cost, options);
    const { gate, key } = this;
    return this.reply(() =>
      whenAnswered(gate.consume(key, cost), (verdict) => this.#reserved(verdict, cost)),
    );
  }

  /**
   * Learns from the response of the API that this limit stands for: on a 429, a 503 or a budget used up, the key is blocked
   * until the response says it may be asked again, wherever the store is shared.
   * @param response Of `fetch`, `node:http`, axios and their like, or the headers alone.
   * @returns What the response said; undefined when nothing.
   */
  async observe(response: unknown, options?: FeedbackOptions): Promise<Feedback | undefined> {
    // Loaded when it is first needed: most who import a limit never do.
    const { observe } = await import("../feedback/observe.ts");
    return observe(this as { block(forMs: number): Answer<void> }, response, options);
  }

  async #reserveWaiting(cost: number, options: AcquireOptions): Promise<Reservation<When>> {
    const terms = readWaitTerms(options);
    const reservation = this.#reserved(await this.gate.wait(this.key, cost, terms), cost);
    if (terms.throws && !reservation.allowed) throw new RateLimitExceeded(reservation.decision);
    return reservation;
  }

  #reserved(verdict: Verdict, cost: number): Reservation<When> {
    const { gate, key } = this;
    return new Reservation<When>({ gate, key, verdict, decision: gate.dress(verdict, key, cost) });
  }
}
