/**
 * A circuit breaker, after Nygard, "Release It!" (2007): it stops calling what keeps failing, and finds out by single probes
 * when it is well again.
 *
 *     closed ──── `failures` failures in a row ───► open
 *     open ────── the cool-down has passed ───────► half-open      on the next call, which is its first probe
 *     half-open ─ `probes` probes succeeded ──────► closed
 *     half-open ─ a probe failed ─────────────────► open
 *
 * - While it is open or half-open, at most `probes` calls go through in each cool-down; all others are refused at once.
 * - A cool-down is lengthened by a random part, so that a fleet does not probe in step.
 * - What a call that began in an earlier state has to tell no longer counts: a late success does not close it, and a late
 *   failure does not spoil the probes.
 */
import { type Clock, isClock, systemClock } from "../base/clock.ts";
import { Emitter } from "../base/emitter.ts";
import { isSluiceError, SluiceError } from "../base/errors.ts";
import { custom, durationMs, fn, integer, number, optional, resolveOptions } from "../base/options.ts";
import { type Call, type CallPolicy, signalOr } from "./call-policy.ts";

/** Whether calls go through: all, none, or probes only. */
export type CircuitState = "closed" | "open" | "half-open";

/** The options of {@link circuitBreaker}. */
export interface CircuitBreakerOptions {
  /** How many failures in a row open it: from 1 to 10 000; default 5. */
  readonly failures?: number;
  /** How long it stays open before a probe, in milliseconds: from 1 to a day; default 1 000. */
  readonly coolDownMs?: number;
  /** By what part of itself a cool-down may be longer, at random: from 0 to 1; default 0.2. */
  readonly jitter?: number;
  /** How many probes may be under way at once, and must succeed before it closes: from 1 to 1 000; default 1. */
  readonly probes?: number;
  /** A call that takes longer counts as failed, in milliseconds. It is neither ended nor is its result lost. */
  readonly slowMs?: number;
  /** Whether an error says that what was called is unwell; default all but a denial of a limit (`RateLimitExceeded`). */
  readonly isFailure?: (error: unknown) => boolean;
  /** Where time comes from; default the system's. For tests. */
  readonly clock?: Clock;
  /** A random number from 0 to below 1; default `Math.random`. For tests. */
  readonly random?: () => number;
}

/** What a {@link CircuitBreaker} tells of. */
export interface CircuitEvents {
  /** It opened, because of `error`; the next probe is due in `retryAfterMs`. */
  readonly open: { readonly error: unknown; readonly retryAfterMs: number };
  /** It lets probes through. */
  readonly "half-open": { readonly state: "half-open" };
  /** It is well again. */
  readonly closed: { readonly state: "closed" };
}

/** The right to one call, to be told how it went. Opaque. */
export type CircuitPass = number & { readonly __brand: "circuit pass" };

const spec = {
  failures: integer({ default: 5, min: 1, max: 10_000 }),
  coolDownMs: durationMs({ default: 1000, min: 1, max: 86_400_000 }),
  jitter: number({ default: 0.2, min: 0, max: 1 }),
  probes: integer({ default: 1, min: 1, max: 1000 }),
  slowMs: optional(durationMs({ min: 1 })),
  isFailure: fn<(error: unknown) => boolean>({ default: (error) => !isSluiceError(error, "rate_limited") }),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
  random: fn<() => number>({ default: Math.random }),
};

/**
 * Makes a circuit breaker. It is the one that guards the stores of limits.
 * @throws `invalid_option`.
 *
 * @example
 *     const breaker = circuitBreaker({ failures: 5, coolDownMs: 2000 });
 *     const user = await breaker.execute(({ signal }) => fetch(url, { signal }));
 */
export function circuitBreaker(options?: CircuitBreakerOptions): CircuitBreaker {
  return new CircuitBreaker(options);
}

/** A circuit breaker. Made by {@link circuitBreaker}. */
export class CircuitBreaker implements CallPolicy {
  readonly #options: ReturnType<typeof resolved>;
  readonly #events = new Emitter<CircuitEvents>();
  #state: CircuitState = "closed";
  /** Rises with every change of state, so that a pass tells in which it was given. */
  #generation = 0;
  #failuresInARow = 0;
  #openUntilUs = 0;
  #probesOut = 0;
  #probesSucceeded = 0;
  #lastProbeUs = 0;

  /** @internal */
  constructor(options: CircuitBreakerOptions | undefined) {
    this.#options = resolved(options);
  }

  /** Whether calls go through now. Open turns into half-open with the first probe, not by time alone. */
  get state(): CircuitState {
    return this.#state;
  }

  /** How long until the next probe is due, in microseconds: 0 while closed. */
  get retryAfterUs(): number {
    if (this.#state === "closed") return 0;
    const dueUs =
      this.#state === "open" ? this.#openUntilUs : this.#lastProbeUs + 1000 * this.#options.coolDownMs;
    return Math.max(1, Math.ceil(dueUs - this.#options.clock.nowUs()));
  }

  /** Listens for changes of state; returns the function that stops it. */
  on<Name extends keyof CircuitEvents>(
    name: Name,
    listener: (event: CircuitEvents[Name]) => void,
  ): () => void {
    return this.#events.on(name, listener);
  }

  /**
   * Runs a call, unless the circuit is open. A call that its caller cancelled counts neither way.
   * @throws `circuit_open` when it is refused, with `details.retryAfterMs`; else whatever the call throws.
   */
  async execute<Result>(call: Call<Result>, signal?: AbortSignal): Promise<Result> {
    signal?.throwIfAborted();
    const pass = this.enter();
    if (pass === undefined) throw this.#refusal();
    const { slowMs, clock, isFailure } = this.#options;
    let isSlow = false;
    const onSlow = (): void => {
      isSlow = true;
      this.fail(pass, new SluiceError("timeout", `the call took more than ${slowMs} ms (option slowMs)`));
    };
    const timer = slowMs === undefined ? undefined : clock.setTimer(onSlow, slowMs * 1000);
    try {
      const result = await call({ signal: signalOr(signal) });
      if (!isSlow) this.succeed(pass);
      return result;
    } catch (error) {
      if (!isSlow) {
        if (signal?.aborted) this.abandon(pass);
        else if (isFailure(error)) this.fail(pass, error);
        else this.succeed(pass);
      }
      throw error;
    } finally {
      timer?.cancel();
    }
  }

  /**
   * Asks for one call, for those who cannot use `execute`. Each pass wants one of `succeed`, `fail` and `abandon`; a probe that
   * is never heard of again blocks others for one cool-down.
   * @returns Undefined when the call is refused.
   */
  enter(): CircuitPass | undefined {
    if (this.#state === "closed") return this.#generation as CircuitPass;
    const nowUs = this.#options.clock.nowUs();
    if (this.#state === "open") {
      if (nowUs < this.#openUntilUs) return undefined;
      this.#become("half-open");
      this.#events.emit("half-open", { state: "half-open" });
    }
    const isLost = nowUs - this.#lastProbeUs >= 1000 * this.#options.coolDownMs;
    if (this.#probesOut >= this.#options.probes && !isLost) return undefined;
    this.#probesOut++;
    this.#lastProbeUs = nowUs;
    return this.#generation as CircuitPass;
  }

  /** The call of this pass went well. */
  succeed(pass: CircuitPass): void {
    if (pass !== this.#generation) return;
    this.#failuresInARow = 0;
    if (this.#state !== "half-open") return;
    this.#probesOut--;
    this.#probesSucceeded++;
    if (this.#probesSucceeded < this.#options.probes) return;
    this.#become("closed");
    this.#events.emit("closed", { state: "closed" });
  }

  /** The call of this pass failed. */
  fail(pass: CircuitPass, error: unknown): void {
    if (pass !== this.#generation) return;
    this.#failuresInARow++;
    if (this.#state === "closed" && this.#failuresInARow < this.#options.failures) return;
    const { coolDownMs, jitter, random, clock } = this.#options;
    const pauseMs = coolDownMs * (1 + jitter * random());
    this.#become("open");
    this.#openUntilUs = clock.nowUs() + Math.ceil(1000 * pauseMs);
    this.#events.emit("open", { error, retryAfterMs: pauseMs });
  }

  /** The call of this pass was given up, and says nothing. */
  abandon(pass: CircuitPass): void {
    if (pass === this.#generation && this.#state === "half-open") this.#probesOut--;
  }

  #become(state: CircuitState): void {
    this.#state = state;
    this.#generation++;
    this.#failuresInARow = 0;
    this.#probesOut = 0;
    this.#probesSucceeded = 0;
  }

  #refusal(): SluiceError {
    const retryAfterMs = this.retryAfterUs / 1000;
    return new SluiceError(
      "circuit_open",
      `the circuit breaker is ${this.#state}; the next probe is due in ${retryAfterMs} ms`,
      { details: { state: this.#state, retryAfterMs } },
    );
  }
}

function resolved(options: CircuitBreakerOptions | undefined) {
  return resolveOptions("circuit breaker", spec, options);
}
