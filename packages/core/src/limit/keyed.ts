import { custom, durationMs, optional, resolveOptions } from "../base/options.ts";
import type { Decision } from "./decision.ts";
import type { Gate } from "./gate.ts";

/** How {@link KeyedLimit.acquire} waits. */
export interface AcquireOptions {
  /** Ends the wait when it fires: the call rejects with its reason, the place goes to the next in line. */
  readonly signal?: AbortSignal;
  /**
   * The longest wait, in milliseconds; unbounded by default. When the wait is known to be longer, the call resolves at once
   * to a decision with `allowed: false`; it never waits longer than this.
   */
  readonly maxWaitMs?: number;
}

const acquireSpec = {
  signal: optional(custom("an AbortSignal", (value) => (value instanceof AbortSignal ? value : undefined))),
  maxWaitMs: optional(durationMs()),
};

/**
 * A limit as one key sees it. Keys of a limit share its rule and nothing else: each has the whole budget to itself.
 *
 * Every method that takes a `cost` (default 1) rejects with `invalid_cost` unless it is a whole number of at least 1, and with
 * `closed` after the limit was closed. A denial is never thrown.
 */
export class KeyedLimit {
  /** Whose budget this is; empty for the limit's own. */
  readonly key: string;
  readonly #gate: Gate;

  /** @internal */
  constructor(gate: Gate, key: string) {
    this.#gate = gate;
    this.key = key;
  }

  /**
   * Takes `cost` now, or is denied now. Does not queue, and does not stand back for those who wait in `acquire`.
   * A cost above the capacity is denied with `never`.
   */
  tryAcquire(cost: number = 1): Promise<Decision> {
    return this.#gate.consume(this.key, cost);
  }

  /**
   * Waits until `cost` is admitted: first come, first served among the callers of this process that wait for the same key.
   *
   * @returns The decision: `allowed`, unless `maxWaitMs` said not to wait so long.
   * @throws `cost_exceeds_capacity` when it could never be admitted; `too_many_waiters` when the bound of the limit is
   *   reached; the signal's reason when it fires.
   *
   * @example
   *     await github.acquire();
   *     const decision = await github.acquire(5, { maxWaitMs: 2000, signal: AbortSignal.timeout(5000) });
   */
  async acquire(cost: number = 1, options?: AcquireOptions): Promise<Decision> {
    // Most calls give no options, and are then spared the reading of them.
    if (options === undefined)
      return this.#gate.wait(this.key, cost, { signal: undefined, maxWaitUs: Infinity });
    const { signal, maxWaitMs } = resolveOptions("acquire", acquireSpec, options);
    const maxWaitUs = maxWaitMs === undefined ? Infinity : Math.floor(maxWaitMs * 1000);
    return this.#gate.wait(this.key, cost, { signal, maxWaitUs });
  }

  /** What `tryAcquire` would answer now. Takes nothing: `remaining` and `resetAt` are those of the key as it stands. */
  peek(cost: number = 1): Promise<Decision> {
    return this.#gate.peek(this.key, cost);
  }

  /** The largest cost that would be admitted now. */
  async available(): Promise<number> {
    return (await this.peek()).remaining;
  }

  /** Makes the whole capacity available, as if the key had never been used; those who wait are served from it at once. */
  reset(): Promise<void> {
    return this.#gate.reset(this.key);
  }
}
