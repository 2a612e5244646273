/**
 * A slot of a concurrency limit: held by a lease that is renewed until it is released or lost.
 *
 *     held ──► released   by its holder
 *       └────► lost       the store no longer knows the lease, or could not be asked for a whole term
 */
import type { Clock, Timer } from "../base/clock.ts";
import { SluiceError } from "../base/errors.ts";
import type { ConcurrencyPolicy } from "./algorithms/concurrency.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import { Budget, type Reply, type Timing } from "./budget.ts";
import { type Decision, decisionOf } from "./decision.ts";
import type { Gate } from "./gate.ts";
import { whenAnswered } from "./store.ts";

/** How many times a lease is renewed in one term, so that one failure does not lose it. */
const renewalsPerTerm = 3;

/**
 * The answer of a concurrency limit: a decision and, when it is allowed, the right to hold slots until it is released. The
 * lease renews itself for as long as this process lives and reaches the store.
 *
 * Write `using slot = await limit.acquire()` to release it when the block is left, or call `release()`. Let what it guards check
 * the `fence`: a holder that was stopped for longer than its lease may still believe that it holds.
 */
export class Slot<When extends Timing = Timing> implements Decision {
  readonly allowed: boolean;
  readonly never: boolean;
  readonly remaining: number;
  readonly retryAfterMs: number;
  readonly resetAt: number;
  readonly limit: string;
  readonly key: string;
  readonly cost: number;
  readonly violated: readonly string[];
  readonly mode: Decision["mode"];
  /** Which holding this is: higher than every earlier one under the same key. 0 when it was denied. */
  readonly fence: number;
  readonly #budget: Budget<When>;
  readonly #lost = new AbortController();
  /** Undefined when nothing is held: denied, released or lost. */
  #renewal: Renewal | undefined;

  /** @internal */
  constructor(gate: Gate, key: string, cost: number, verdict: Verdict) {
    const decision = decisionOf(verdict, { limit: gate.name, key, cost });
    this.allowed = decision.allowed;
    this.never = decision.never;
    this.remaining = decision.remaining;
    this.retryAfterMs = decision.retryAfterMs;
    this.resetAt = decision.resetAt;
    this.limit = decision.limit;
    this.key = key;
    this.cost = cost;
    this.violated = decision.violated;
    this.mode = decision.mode;
    this.fence = verdict.fence;
    this.#budget = new Budget(gate, key);
    if (verdict.allowed && verdict.fence !== 0) {
      this.#renewal = new Renewal(gate, { key, fence: verdict.fence }, (cause) => this.#lose(cause));
    }
  }

  /** Whether the slots are held: allowed, and neither released nor known to be lost. */
  get isHeld(): boolean {
    return this.#renewal !== undefined;
  }

  /** Fires with `lease_lost` when the lease was lost: somebody else may hold the slots from then on. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /** Gives the slots back, to the next in line if somebody waits. Once; later calls return false, as for a lost lease. */
  release(): Reply<When, boolean> {
    const { gate, key } = this.#budget;
    return this.#budget.reply(() => {
      if (this.#renewal === undefined) return false;
      this.#renewal.stop();
      this.#renewal = undefined;
      return whenAnswered(gate.store.release(gate.rule, key, this.fence), (released) => {
        gate.recheck(key);
        return released;
      });
    });
  }

  /** Releases when `using` leaves its block; a failure of a distant store is left to the end of the lease. */
  [Symbol.dispose](): void {
    const released: unknown = this.release();
    // Nobody awaits this one, and an unhandled rejection would end the process over a slot that frees itself.
    if (released instanceof Promise) released.catch(() => {});
  }

  /** Releases when `await using` leaves its block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  #lose(cause: unknown): void {
    this.#renewal = undefined;
    const details = { limit: this.limit, key: this.key, fence: this.fence };
    const message = `limit "${this.limit}": the lease ran out before it was released`;
    this.#lost.abort(
      new SluiceError("lease_lost", message, cause === undefined ? { details } : { cause, details }),
    );
  }
}

/** Renews one lease until it is stopped or lost. */
class Renewal {
  readonly #gate: Gate;
  readonly #lease: { readonly key: string; readonly fence: number };
  readonly #onLost: (cause: unknown) => void;
  readonly #clock: Clock;
  /** When the lease is over by this process's clock if it cannot be renewed: a term after it was last asked for. */
  #endsUs: number;
  #timer: Timer;
  #stopped = false;

  constructor(
    gate: Gate,
    lease: { readonly key: string; readonly fence: number },
    onLost: (cause: unknown) => void,
  ) {
    this.#gate = gate;
    this.#lease = lease;
    this.#onLost = onLost;
    this.#clock = gate.clock;
    this.#endsUs = this.#clock.nowUs() + this.#leaseUs;
    this.#timer = this.#next();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer.cancel();
  }

  get #leaseUs(): number {
    return (this.#gate.rule.policy as ConcurrencyPolicy).leaseUs;
  }

  #next(): Timer {
    const leftUs = this.#endsUs - this.#clock.nowUs();
    const delayUs = Math.max(1, Math.min(Math.floor(this.#leaseUs / renewalsPerTerm), leftUs));
    const timer = this.#clock.setTimer(() => void this.#renew(), delayUs);
    // A slot that is held keeps nobody's process alive.
    timer.unref?.();
    return timer;
  }

  async #renew(): Promise<void> {
    const askedUs = this.#clock.nowUs();
    const { key, fence } = this.#lease;
    let failure: unknown;
    try {
      const expiresAtUs = await this.#gate.store.renew(this.#gate.rule, key, fence);
      if (this.#stopped) return;
      if (expiresAtUs === undefined) return this.#onLost(undefined);
      this.#endsUs = askedUs + this.#leaseUs;
    } catch (error) {
      failure = error;
    }
    if (this.#stopped) return;
    if (this.#clock.nowUs() >= this.#endsUs) return this.#onLost(failure);
    this.#timer = this.#next();
  }
}
