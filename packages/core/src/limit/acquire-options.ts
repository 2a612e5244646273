import { boolean, custom, durationMs, integer, optional, resolveOptions } from "../base/options.ts";
import { type Decision, RateLimitExceeded } from "./decision.ts";

/** How a call that does not wait is answered. */
export interface TryOptions {
  /** Throws a denial as `RateLimitExceeded` instead of returning it; default false. */
  readonly throws?: boolean;
}

/** How `acquire` waits. */
export interface AcquireOptions extends TryOptions {
  /** Ends the wait when it fires: the call rejects with its reason, the place goes to the next in line. */
  readonly signal?: AbortSignal;
  /**
   * The longest wait, in milliseconds; unbounded by default. When the wait is known to be longer, the call resolves at once
   * to a decision with `allowed: false`; it never waits longer than this.
   */
  readonly maxWaitMs?: number;
  /**
   * Who has more is served before who has less, whenever they came; among equals first come, first served. A whole number
   * from -100 to 100; default 0. Somebody of a low priority may wait for as long as higher ones keep coming: bound it with
   * `maxWaitMs`.
   */
  readonly priority?: number;
}

/** {@link AcquireOptions}, read. */
export interface WaitTerms {
  readonly signal: AbortSignal | undefined;
  readonly maxWaitUs: number;
  readonly priority: number;
  readonly throws: boolean;
}

const spec = {
  signal: optional(custom("an AbortSignal", (value) => (value instanceof AbortSignal ? value : undefined))),
  maxWaitMs: optional(durationMs()),
  priority: integer({ default: 0, min: -100, max: 100 }),
  throws: boolean({ default: false }),
};

const patient: WaitTerms = Object.freeze({
  signal: undefined,
  maxWaitUs: Infinity,
  priority: 0,
  throws: false,
});

/**
 * Reads the options of a wait.
 * @throws `invalid_option`.
 */
export function readWaitTerms(options: AcquireOptions | undefined): WaitTerms {
  // Most calls give no options, and are then spared the reading of them.
  if (options === undefined) return patient;
  const { maxWaitMs, ...terms } = resolveOptions("acquire", spec, options);
  return { ...terms, maxWaitUs: maxWaitMs === undefined ? Infinity : Math.floor(maxWaitMs * 1000) };
}

/**
 * A denial as the caller wants it: returned, or thrown.
 * @throws `rate_limited`, `invalid_option`.
 */
export function asWanted<Answer extends Decision>(decision: Answer, options: TryOptions | undefined): Answer {
  if (options === undefined) return decision;
  const { throws } = resolveOptions("limit", { throws: spec.throws }, options);
  if (throws && !decision.allowed) throw new RateLimitExceeded(decision);
  return decision;
}
