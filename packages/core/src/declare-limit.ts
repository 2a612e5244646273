/**
 * Where a limit is put together: the one place that knows both the engine (`limit/`) and the store it has by default.
 */
import { type Clock, isClock, systemClock } from "./base/clock.ts";
import { SluiceError } from "./base/errors.ts";
import { custom, integer, oneOf, optional, resolveOptions, string } from "./base/options.ts";
import { parseRate, type RateInput } from "./base/rate.ts";
import type { WindowAlignment } from "./limit/algorithms/fixed-window.ts";
import { type RateAlgorithm, ratePolicy } from "./limit/algorithms/policy.ts";
import { Limit } from "./limit/limit.ts";
import { isLimitStore, type LimitStore } from "./limit/store.ts";
import { memory } from "./stores/memory/memory-store.ts";

/** The options of {@link limit}. All of them may be left out. */
export interface LimitOptions {
  /**
   * How the rate is kept; this decides what any window of one period may hold at the most.
   * - `sliding-window` (the default): exactly the limit. Takes memory for each admission of the last period.
   * - `token-bucket` (the default when `burst` is given): burst + limit; with `burst: 1` never more than the limit,
   *   evenly spaced. Takes one number.
   * - `fixed-window`: twice the limit. Takes two numbers.
   */
  readonly algorithm?: RateAlgorithm;
  /** Token bucket: the most admitted at one instant, from 1 to 10^9; default the limit of the rate. 1 is strict pacing. */
  readonly burst?: number;
  /** Fixed window: where windows begin; default `calendar`. */
  readonly align?: WindowAlignment;
  /** Where state lives; default a memory store of its own. */
  readonly store?: LimitStore;
  /** Where the memory store and the waits of `acquire` take time from; default the system's. For tests. */
  readonly clock?: Clock;
  /** The most keys that may be in use at once in the limit's own memory store; default 1 000 000. */
  readonly maxKeys?: number;
  /** The most callers that may wait in `acquire` at once, over all keys; default 10 000. */
  readonly maxWaiters?: number;
}

const spec = {
  algorithm: optional(oneOf(["token-bucket", "sliding-window", "fixed-window"])),
  burst: optional(integer({ min: 1, max: 1_000_000_000 })),
  align: optional(oneOf(["calendar", "first-request"])),
  store: optional(custom("a store", (value) => (isLimitStore(value) ? value : undefined))),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
  maxKeys: optional(integer({ min: 1, max: 10_000_000 })),
  maxWaiters: integer({ default: 10_000, min: 0, max: 1_000_000 }),
};

const nameField = { name: string({ maxLength: 200 }) };

/**
 * Declares a limit.
 *
 * @param name What decisions and errors call it, and what its state is stored under; 1 to 200 characters.
 * @param rate `"10/60s"`, `"5/s"`, `"5000/h"`, `"5/250ms"`, `"0.5/s"` or `{limit, periodMs}`; see `parseRate`.
 * @throws `invalid_rate`, `invalid_option`.
 *
 * @example
 *     const github = limit("github", "5000/h");
 *     await github.acquire();                                    // waits for its turn
 *
 *     const perTenant = limit("per-tenant", "20/60s", { algorithm: "token-bucket", burst: 5 });
 *     const decision = await perTenant.for("acme").tryAcquire(); // now or no
 *     if (!decision.allowed) console.log(`again in ${decision.retryAfterMs} ms`);
 */
export function limit(name: string, rate: RateInput, options?: LimitOptions): Limit {
  resolveOptions("limit", nameField, { name });
  const owner = `limit ${JSON.stringify(name)}`;
  const { algorithm, burst, align, store, clock, maxKeys, maxWaiters } = resolveOptions(owner, spec, options);
  if (store !== undefined && maxKeys !== undefined) {
    throw new SluiceError(
      "invalid_option",
      `${owner}: option maxKeys: belongs to the store, which was handed in`,
    );
  }
  const policy = prefixed(owner, () =>
    ratePolicy(parseRate(rate), {
      algorithm: algorithm ?? (burst === undefined ? "sliding-window" : "token-bucket"),
      burst,
      align,
    }),
  );
  const gate = { rule: Object.freeze({ name, policy }), clock, maxWaiters };
  if (store !== undefined) return new Limit({ ...gate, store });

  const own = memory({ clock, ...(maxKeys === undefined ? {} : { maxKeys }) });
  return new Limit({ ...gate, store: own }, () => own.close());
}

/** Lets an error of the parts say whose limit it was. */
function prefixed<Result>(owner: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    throw new SluiceError(error.code, `${owner}: ${error.message}`, { details: error.details });
  }
}
