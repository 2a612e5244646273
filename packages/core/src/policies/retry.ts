/**
 * Retries with exponential backoff and full jitter, after Brooker, "Exponential Backoff and Jitter" (AWS, 2015): the n-th pause
 * is random between 0 and min(maxMs, baseMs·2^(n−1)), so that those who failed together do not come back together.
 *
 * Who was told when to come back does so: a pause is never shorter than `retryAfterMs` of a denial or `Retry-After` of an HTTP
 * answer, and has the jitter on top. When that is more than `retryAfterMaxMs`, or than what is left of `totalMs`, there is no
 * point in waiting and the failure is final.
 */
import { type Clock, isClock, systemClock } from "../base/clock.ts";
import { isSluiceError } from "../base/errors.ts";
import { custom, durationMs, fn, integer, optional, resolveOptions } from "../base/options.ts";
import { type Call, type CallPolicy, signalOr } from "./call-policy.ts";
import { retryAfterOf } from "./retry-after.ts";
import { sleep } from "./sleep.ts";

/** One attempt that failed, and what comes of it. */
export interface FailedAttempt {
  /** Which it was: 1 for the first. */
  readonly attempt: number;
  /** What it threw; for a result that counts as failed, the result. */
  readonly failure: unknown;
  /** How long until the next attempt, in milliseconds. */
  readonly delayMs: number;
}

/** The options of {@link retry}. */
export interface RetryOptions {
  /** How often to try in all, the first time included: from 1 to 1 000; default 5. */
  readonly attempts?: number;
  /** The longest first pause, in milliseconds: from 0 to a day; default 100. Doubles with every attempt. */
  readonly baseMs?: number;
  /** The longest pause by backoff, in milliseconds: up to a day; default 10 000. */
  readonly maxMs?: number;
  /** The longest pause that a server or a limit may ask for, in milliseconds; default 60 000. */
  readonly retryAfterMaxMs?: number;
  /** No attempt begins later than this after the first, in milliseconds; unbounded by default. */
  readonly totalMs?: number;
  /**
   * Whether an error is worth another attempt; default all but a `SluiceError` that says it is not `retryable`. A denial with
   * `never` and a cancelled call are never retried.
   */
  readonly isRetryable?: (error: unknown, attempt: number) => boolean;
  /** Whether a result counts as a failure, such as a `Response` with status 503; default none. The last one is returned. */
  readonly isFailedResult?: (result: unknown) => boolean;
  /** Told of every attempt that will be followed by another. */
  readonly onRetry?: (failed: FailedAttempt) => void;
  /** Where time comes from; default the system's. For tests. */
  readonly clock?: Clock;
  /** A random number from 0 to below 1; default `Math.random`. For tests. */
  readonly random?: () => number;
}

const dayMs = 86_400_000;

const spec = {
  attempts: integer({ default: 5, min: 1, max: 1000 }),
  baseMs: durationMs({ default: 100, max: dayMs }),
  maxMs: durationMs({ default: 10_000, max: dayMs }),
  retryAfterMaxMs: durationMs({ default: 60_000 }),
  totalMs: optional(durationMs()),
  isRetryable: fn<(error: unknown, attempt: number) => boolean>({
    default: (error) => !isSluiceError(error) || error.retryable,
  }),
  isFailedResult: fn<(result: unknown) => boolean>({ default: () => false }),
  onRetry: optional(fn<(failed: FailedAttempt) => void>()),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
  random: fn<() => number>({ default: Math.random }),
};

/**
 * Makes a policy that tries again. What it throws in the end is what the last attempt threw. An abort ends a pause at once, with
 * the signal's reason.
 * @throws `invalid_option`.
 *
 * @example
 *     const user = await retry({ attempts: 4 }).execute(({ signal }) => fetchUser(id, signal), signal);
 */
export function retry(options?: RetryOptions): CallPolicy {
  return new Retry(options);
}

function resolved(options: RetryOptions | undefined) {
  return resolveOptions("retry", spec, options);
}

class Retry implements CallPolicy {
  readonly #options: ReturnType<typeof resolved>;

  constructor(options: RetryOptions | undefined) {
    this.#options = resolved(options);
  }

  async execute<Result>(call: Call<Result>, signal?: AbortSignal): Promise<Result> {
    const { clock, isFailedResult, onRetry } = this.#options;
    const startUs = clock.nowUs();
    const context = { signal: signalOr(signal) };
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      let failure: unknown;
      let delayMs: number | undefined;
      try {
        const result = await call(context);
        if (!isFailedResult(result)) return result;
        failure = result;
        delayMs = this.#delayAfter(failure, attempt, startUs);
        if (delayMs === undefined) return result;
      } catch (error) {
        failure = error;
        if (signal?.aborted || !this.#options.isRetryable(error, attempt)) throw error;
        delayMs = this.#delayAfter(error, attempt, startUs);
        if (delayMs === undefined) throw error;
      }
      onRetry?.({ attempt, failure, delayMs });
      await sleep(Math.ceil(delayMs * 1000), clock, signal);
    }
  }

  /** The pause after a failure; undefined when there shall be no other attempt. */
  #delayAfter(failure: unknown, attempt: number, startUs: number): number | undefined {
    const { attempts, baseMs, maxMs, retryAfterMaxMs, totalMs, clock, random } = this.#options;
    if (attempt >= attempts) return undefined;
    const nowUs = clock.nowUs();
    const toldMs = retryAfterOf(failure, nowUs / 1000) ?? 0;
    if (toldMs > retryAfterMaxMs) return undefined;
    // The exponent is bounded, since 2^1024 is Infinity, and 0·Infinity is not a number.
    const backoffMs = Math.min(maxMs, baseMs * 2 ** Math.min(attempt - 1, 60));
    const delayMs = toldMs + backoffMs * random();
    const isTooLate = totalMs !== undefined && (nowUs - startUs) / 1000 + delayMs > totalMs;
    return isTooLate ? undefined : delayMs;
  }
}
