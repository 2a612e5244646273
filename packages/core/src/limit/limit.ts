import { requireKey } from "../base/key.ts";
import type { Rate, RateInput } from "../base/rate.ts";
import { asWanted, type TryOptions } from "./acquire-options.ts";
import type { RateAlgorithm, RatePolicy } from "./algorithms/policy.ts";
import type { Reply, Timing } from "./budget.ts";
import type { Decision } from "./decision.ts";
import type { LimitEvents } from "./events.ts";
import { Gate, type GateOptions, isCost } from "./gate.ts";
import { KeyedLimit } from "./keyed.ts";
import { whenAnswered } from "./store.ts";

/** @internal */
export interface LimitMaking extends GateOptions {
  /** The policy for another rate, under the same options. */
  readonly policyOf: (rate: RateInput) => RatePolicy;
  /** Lets go of what was made for this limit alone. */
  readonly onClose: () => void | PromiseLike<void>;
}

/**
 * A named budget. Used directly it is one budget; through `for(key)` it is one budget per key, all under the same rule.
 * Made by `limit(name, rate, options)`. `Limit<"now">` answers at once, `Limit<"later">` by promise.
 */
export class Limit<When extends Timing = Timing> extends KeyedLimit<When> {
  /** The name: what decisions and errors call it, and what its state is stored under. */
  readonly name: string;
  readonly #making: LimitMaking;

  /** @internal */
  constructor(making: LimitMaking) {
    super(new Gate(making), "");
    this.name = making.rule.name;
    this.#making = making;
  }

  /** The rate, as parsed. */
  get rate(): Rate {
    return this.#policy.rate;
  }

  /** The algorithm that keeps the rate. */
  get algorithm(): RateAlgorithm {
    return this.#policy.algorithm;
  }

  /** The most cost admitted at once: the burst of a token bucket, the limit of a window. */
  get capacity(): number {
    return this.#policy.capacity;
  }

  /** How many callers wait in `acquire`, over all keys. */
  get waiters(): number {
    return this.gate.waiters;
  }

  /**
   * The budget of one key: a tenant, an address, a provider. Keys are compared exactly as they are, without case folding
   * or Unicode normalisation. Cheap; keep the result or ask again as you like.
   * @throws `invalid_key` unless the key is a string of 1 to 512 characters without control characters or lone surrogates.
   */
  for(key: string): KeyedLimit<When> {
    requireKey(key);
    return new KeyedLimit<When>(this.gate, key);
  }

  /** One request of one key, now or denied: `for(key).tryAcquire(cost)`; a bad key rejects if the limit answers later. */
  check(key: string, cost: number = 1, options?: TryOptions): Reply<When, Decision> {
    const { table } = this.gate;
    if (table !== undefined && !table.isRetired && options === undefined && isCost(cost) && key !== "") {
      // The table checks a key that it does not know yet.
      return table.decide(key, cost) as Reply<When, Decision>;
    }
    const answer = this.gate.check(key, cost);
    if (options === undefined) return answer as Reply<When, Decision>;
    return whenAnswered(answer, (decision) => asWanted(decision, options)) as Reply<When, Decision>;
  }

  /**
   * Puts another rate in the place of this one, for all keys and at once; algorithm, burst and alignment stay. What was
   * consumed stays consumed: no key gets a fresh budget. Those who wait are told anew.
   *
   * With a shared store every process says for itself which rate it keeps: give them all the new one.
   * @throws `invalid_rate`, `invalid_option`.
   */
  update(rate: RateInput): void {
    this.gate.update(this.#making.policyOf(rate));
  }

  /**
   * Calls `listener` with every event of a kind, for metrics: `decision` (each answer but those of `peek`) and `wait` (a
   * caller has begun to wait). Costs nothing until somebody listens.
   * @returns The function that removes the listener.
   */
  on<Name extends keyof LimitEvents>(name: Name, listener: (event: LimitEvents[Name]) => void): () => void {
    return this.gate.on(name, listener);
  }

  /** Turns away everybody who waits, with `closed`, and takes no more calls. A store that was handed in stays open. */
  async close(): Promise<void> {
    this.gate.close();
    await this.#making.onClose();
  }

  get #policy(): RatePolicy {
    return this.gate.rule.policy as RatePolicy;
  }
}
