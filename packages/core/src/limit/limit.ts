import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import type { Rate } from "../base/rate.ts";
import type { RateAlgorithm } from "./algorithms/policy.ts";
import type { Decision } from "./decision.ts";
import { Gate, type GateOptions } from "./gate.ts";
import { KeyedLimit } from "./keyed.ts";

/** The longest key, in UTF-16 units. */
const keyLengthMax = 512;

/**
 * A named budget. Used directly it is one budget; through `for(key)` it is one budget per key, all under the same rule.
 * Made by `limit(name, rate, options)`.
 */
export class Limit extends KeyedLimit {
  /** The name: what decisions and errors call it, and what its state is stored under. */
  readonly name: string;
  readonly #gate: Gate;
  readonly #onClose: () => void | PromiseLike<void>;

  /**
   * @internal
   * @param onClose Lets go of what was made for this limit alone.
   */
  constructor(options: GateOptions, onClose: () => void | PromiseLike<void> = () => {}) {
    const gate = new Gate(options);
    super(gate, "");
    this.name = options.rule.name;
    this.#gate = gate;
    this.#onClose = onClose;
  }

  /** The rate, as parsed. */
  get rate(): Rate {
    return this.#gate.rule.policy.rate;
  }

  /** The algorithm that keeps the rate. */
  get algorithm(): RateAlgorithm {
    return this.#gate.rule.policy.algorithm;
  }

  /** The most cost admitted at once: the burst of a token bucket, the limit of a window. */
  get capacity(): number {
    return this.#gate.rule.policy.capacity;
  }

  /** How many callers wait in `acquire`, over all keys. */
  get waiters(): number {
    return this.#gate.waiters;
  }

  /**
   * The budget of one key: a tenant, an address, a provider. Keys are compared exactly as they are, without case folding
   * or Unicode normalisation. Cheap; keep the result or ask again as you like.
   * @throws `invalid_key` unless the key is a string of 1 to 512 characters without control characters or lone surrogates.
   */
  for(key: string): KeyedLimit {
    requireKey(key);
    return new KeyedLimit(this.#gate, key);
  }

  /** One request of one key, now or denied: `for(key).tryAcquire(cost)`, except that a bad key rejects. */
  async check(key: string, cost: number = 1): Promise<Decision> {
    requireKey(key);
    return this.#gate.consume(key, cost);
  }

  /** Turns away everybody who waits, with `closed`, and takes no more calls. A store that was handed in stays open. */
  async close(): Promise<void> {
    this.#gate.close();
    await this.#onClose();
  }
}

function requireKey(key: string): void {
  if (typeof key === "string" && key.length >= 1 && key.length <= keyLengthMax && !forbidden.test(key))
    return;
  throw new SluiceError(
    "invalid_key",
    `key: expected 1 to ${keyLengthMax} characters without control characters, got ${describeValue(key)}`,
  );
}

const forbidden = /[\p{Cc}\p{Surrogate}]/u;
