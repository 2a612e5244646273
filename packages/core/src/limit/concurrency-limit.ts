import { requireKey } from "../base/key.ts";
import { type AcquireOptions, asWanted, readWaitTerms, type TryOptions } from "./acquire-options.ts";
import type { ConcurrencyPolicy } from "./algorithms/concurrency.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import { Budget, type Reply, type Timing } from "./budget.ts";
import { RateLimitExceeded } from "./decision.ts";
import type { LimitEvents } from "./events.ts";
import { Gate, type GateOptions } from "./gate.ts";
import { Slot } from "./slot.ts";
import { whenAnswered } from "./store.ts";

/**
 * A concurrency limit as one key sees it: how many may hold a slot at once. Errors and timing are those of `KeyedLimit`.
 */
export class KeyedConcurrency<When extends Timing = Timing> extends Budget<When> {
  /**
   * Takes `slots` now, or is denied now. Release what was allowed.
   * @throws `rate_limited` on a denial, with `{ throws: true }`.
   */
  tryAcquire(slots: number = 1, options?: TryOptions): Reply<When, Slot<When>> {
    return this.reply(() =>
      whenAnswered(this.gate.consume(this.key, slots), (verdict) =>
        asWanted(this.#dress(verdict, slots), options),
      ),
    );
  }

  /**
   * Waits until `slots` are free: first come, first served among the callers of this process. Slots that another process gives
   * back are noticed within 100 ms.
   * @throws What `KeyedLimit.acquire` throws.
   *
   * @example
   *     using slot = await browsers.acquire();
   *     await render(page, { signal: slot.signal });
   */
  async acquire(slots: number = 1, options?: AcquireOptions): Promise<Slot<When>> {
    const terms = readWaitTerms(options);
    const slot = this.#dress(await this.gate.wait(this.key, slots, terms), slots);
    if (terms.throws && !slot.allowed) throw new RateLimitExceeded(slot);
    return slot;
  }

  #dress(verdict: Verdict, slots: number): Slot<When> {
    return this.gate.signals.decided(new Slot<When>(this.gate, this.key, slots, verdict));
  }
}

/**
 * A named bound on how many hold a slot at once, each by a lease that ends by itself when its holder dies. Made by
 * `concurrency(name, capacity, options)`.
 */
export class ConcurrencyLimit<When extends Timing = Timing> extends KeyedConcurrency<When> {
  /** The name: what decisions and errors call it, and what its state is stored under. */
  readonly name: string;
  readonly #onClose: () => void | PromiseLike<void>;

  /** @internal */
  constructor(options: GateOptions, onClose: () => void | PromiseLike<void>) {
    super(new Gate(options), "");
    this.name = options.rule.name;
    this.#onClose = onClose;
  }

  /** The most slots held at once. */
  get capacity(): number {
    return this.gate.rule.policy.capacity;
  }

  /** How long a lease holds unless it is renewed, in milliseconds. */
  get leaseMs(): number {
    return (this.gate.rule.policy as ConcurrencyPolicy).leaseUs / 1000;
  }

  /** How many callers wait in `acquire`, over all keys. */
  get waiters(): number {
    return this.gate.waiters;
  }

  /** The slots of one key. @throws `invalid_key`, as `Limit.for`. */
  for(key: string): KeyedConcurrency<When> {
    requireKey(key);
    return new KeyedConcurrency<When>(this.gate, key);
  }

  /** Calls `listener` with every event of a kind; see `Limit.on`. */
  on<Name extends keyof LimitEvents>(name: Name, listener: (event: LimitEvents[Name]) => void): () => void {
    return this.gate.on(name, listener);
  }

  /** Turns away everybody who waits, with `closed`, and takes no more calls. Slots that are held stay so until released. */
  async close(): Promise<void> {
    this.gate.close();
    await this.#onClose();
  }
}
