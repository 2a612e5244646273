import { type Clock, isClock, systemClock } from "../base/clock.ts";
import { SluiceError } from "../base/errors.ts";
import { custom, durationMs, integer, number, optional, resolveOptions } from "../base/options.ts";
import type { Rate, RateInput } from "../base/rate.ts";
import { type AimdPolicy, aimdRefusal, aimdStart, aimdSuccess } from "./aimd.ts";
import { headerSource } from "./header-source.ts";
import { type FeedbackOptions, readFeedback } from "./read-feedback.ts";

/** What {@link adaptive} needs of a limit: its rate, and that the rate can be changed. */
export interface Adaptable {
  readonly rate: Rate;
  update(rate: RateInput): unknown;
}

/** The options of {@link adaptive}. Limits are units per period of the limit's rate. */
export interface AdaptiveOptions {
  /** The least limit, a whole number of at least 1. */
  readonly floor: number;
  /** The largest limit, a whole number. */
  readonly ceiling: number;
  /** What a whole budget of successes adds; default 1. */
  readonly increase?: number;
  /** What a refusal multiplies by, from 0.1 to 0.99; default 0.5. */
  readonly decrease?: number;
  /** How long a decrease stands before anything changes again; default the period of the rate. */
  readonly holdMs?: number;
  /** Where time comes from; default the system's. For tests. */
  readonly clock?: Clock;
}

/** A limit's rate being found by trial. Made by {@link adaptive}. */
export interface AdaptiveRate {
  /** The limit now in use: units per period, a whole number from floor to ceiling. */
  readonly current: number;
  /**
   * Learns from an answer of the server, in any form that `readFeedback` takes: a refusal, or else a success. An answer of
   * 500 or above that is no refusal says nothing about a rate.
   */
  observe(response: unknown, options?: FeedbackOptions): void;
}

const spec = {
  floor: integer({ min: 1, max: 1_000_000_000 }),
  ceiling: integer({ min: 1, max: 1_000_000_000 }),
  increase: number({ default: 1, min: 0.001, max: 1_000_000_000 }),
  decrease: number({ default: 0.5, min: 0.1, max: 0.99 }),
  holdMs: optional(durationMs({ min: 0, max: 86_400_000 })),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
};

/**
 * Finds the rate a server admits but does not publish: up by little while it admits, down by half when it refuses
 * (`aimd.ts`), between `floor` and `ceiling`. It changes the rate of `limit`, which keeps what was consumed.
 *
 * The rate so found is this process's own; what a fleet shares is the block of {@link observe}, and a limit that is adapted
 * should have a store of its own: processes would else overrule each other's rate.
 * @throws `invalid_option`.
 *
 * @example
 *     const rate = adaptive(crm, { floor: 5, ceiling: 200 });
 *     const crmFetch = limitedFetch(crm, { onFeedback: (_feedback, response) => rate.observe(response) });
 */
export function adaptive(limit: Adaptable, options: AdaptiveOptions): AdaptiveRate {
  const { clock, holdMs, ...rest } = resolveOptions("adaptive", spec, options);
  if (rest.floor > rest.ceiling) {
    const message = `adaptive: option floor: expected at most the ceiling of ${rest.ceiling}, got ${rest.floor}`;
    throw new SluiceError("invalid_option", message);
  }
  const policy: AimdPolicy = { ...rest, holdMs: holdMs ?? limit.rate.periodUs / 1000 };
  return new Controller(limit, policy, clock);
}

class Controller implements AdaptiveRate {
  readonly #limit: Adaptable;
  readonly #policy: AimdPolicy;
  readonly #clock: Clock;
  #state: ReturnType<typeof aimdStart>;

  constructor(limit: Adaptable, policy: AimdPolicy, clock: Clock) {
    this.#limit = limit;
    this.#policy = policy;
    this.#clock = clock;
    this.#state = aimdStart(limit.rate.limit, policy);
    if (this.current !== limit.rate.limit) this.#apply();
  }

  get current(): number {
    return Math.floor(this.#state.limit);
  }

  observe(response: unknown, options?: FeedbackOptions): void {
    const refused = readFeedback(response, options)?.refused === true;
    if (!refused && (headerSource(response)?.status ?? 200) >= 500) return;
    const before = this.current;
    const change = refused ? aimdRefusal : aimdSuccess;
    this.#state = change(this.#state, this.#clock.nowUs() / 1000, this.#policy);
    if (this.current !== before) this.#apply();
  }

  #apply(): void {
    this.#limit.update({ limit: this.current, periodMs: this.#limit.rate.periodUs / 1000 });
  }
}
