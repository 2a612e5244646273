/**
 * Where a limit is put together: the one place that knows both the engine (`limit/`) and the store it has by default.
 */
import { type Clock, isClock, systemClock } from "./base/clock.ts";
import { SluiceError } from "./base/errors.ts";
import { custom, durationMs, fn, integer, oneOf, optional, resolveOptions, string } from "./base/options.ts";
import { parseRate, type RateInput } from "./base/rate.ts";
import { concurrencyPolicy } from "./limit/algorithms/concurrency.ts";
import type { WindowAlignment } from "./limit/algorithms/fixed-window.ts";
import { type RateAlgorithm, type RatePolicy, ratePolicy } from "./limit/algorithms/policy.ts";
import type { Timing } from "./limit/budget.ts";
import { ConcurrencyLimit } from "./limit/concurrency-limit.ts";
import type { WaitEvent } from "./limit/events.ts";
import { Limit } from "./limit/limit.ts";
import { isLimitStore, type LimitStore } from "./limit/store.ts";
import { type MemoryStore, memory } from "./stores/memory/memory-store.ts";

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
  /** Called when a caller begins to wait: the same as `limit.on("wait", onWait)`. */
  readonly onWait?: (event: WaitEvent) => void;
}

/** The options of {@link concurrency}. All of them may be left out. */
export interface ConcurrencyOptions
  extends Pick<LimitOptions, "store" | "clock" | "maxKeys" | "maxWaiters" | "onWait"> {
  /**
   * How long a holder keeps its slots if it dies or cannot reach the store, in milliseconds: 10 to 86 400 000, default
   * 30 000. A living one renews its lease three times as often.
   */
  readonly leaseMs?: number;
}

const common = {
  store: optional(custom("a store", (value) => (isLimitStore(value) ? value : undefined))),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
  maxKeys: optional(integer({ min: 1, max: 10_000_000 })),
  maxWaiters: integer({ default: 10_000, min: 0, max: 1_000_000 }),
  onWait: optional(fn<(event: WaitEvent) => void>()),
};

const spec = {
  algorithm: optional(oneOf(["token-bucket", "sliding-window", "fixed-window"])),
  burst: optional(integer({ min: 1, max: 1_000_000_000 })),
  align: optional(oneOf(["calendar", "first-request"])),
  ...common,
};

const nameField = { name: string({ maxLength: 200 }) };

/**
 * Declares a limit. With its own memory store, or one made by `memory()`, it answers at once; with any other store by promise.
 *
 * @param name What decisions and errors call it, and what its state is stored under; 1 to 200 characters.
 * @param rate `"10/60s"`, `"5/s"`, `"5000/h"`, `"5/250ms"`, `"0.5/s"` or `{limit, periodMs}`; see `parseRate`.
 * @throws `invalid_rate`, `invalid_option`.
 *
 * @example
 *     const github = limit("github", "5000/h");
 *     await github.acquire();                              // waits for its turn
 *
 *     const perTenant = limit("per-tenant", "20/60s", { algorithm: "token-bucket", burst: 5 });
 *     const decision = perTenant.for("acme").tryAcquire(); // now or no
 *     if (!decision.allowed) console.log(`again in ${decision.retryAfterMs} ms`);
 */
export function limit(
  name: string,
  rate: RateInput,
  options?: LimitOptions & { readonly store?: MemoryStore },
): Limit<"now">;
export function limit(
  name: string,
  rate: RateInput,
  options: LimitOptions & { readonly store: LimitStore },
): Limit<"later">;
export function limit(name: string, rate: RateInput, options?: LimitOptions): Limit;
export function limit(name: string, rate: RateInput, options?: LimitOptions): Limit {
  const owner = ownerOf("limit", name);
  const { algorithm, burst, align, onWait, ...place } = resolveOptions(owner, spec, options);
  const policyOf = (input: RateInput): RatePolicy =>
    prefixed(owner, () =>
      ratePolicy(parseRate(input), {
        algorithm: algorithm ?? (burst === undefined ? "sliding-window" : "token-bucket"),
        burst,
        align,
      }),
    );
  const rule = Object.freeze({ name, policy: policyOf(rate) });
  const made = new Limit<Timing>({ rule, policyOf, ...placed(owner, place) });
  if (onWait !== undefined) made.on("wait", onWait);
  return made;
}

/**
 * Declares how many may hold a slot at once: connections, workers, renderings. Each holds it by a lease, which ends by itself
 * when the holder dies.
 *
 * @param name As for {@link limit}.
 * @param capacity The most slots held at once, from 1 to 10^9.
 * @throws `invalid_option`.
 *
 * @example
 *     const browsers = concurrency("browsers", 4);
 *     {
 *       using slot = await browsers.acquire();
 *       await render(page, { signal: slot.signal });
 *     } // released here
 */
export function concurrency(
  name: string,
  capacity: number,
  options?: ConcurrencyOptions & { readonly store?: MemoryStore },
): ConcurrencyLimit<"now">;
export function concurrency(
  name: string,
  capacity: number,
  options: ConcurrencyOptions & { readonly store: LimitStore },
): ConcurrencyLimit<"later">;
export function concurrency(name: string, capacity: number, options?: ConcurrencyOptions): ConcurrencyLimit;
export function concurrency(name: string, capacity: number, options?: ConcurrencyOptions): ConcurrencyLimit {
  const owner = ownerOf("concurrency", name);
  const leaseMs = durationMs({ default: 30_000, min: 10, max: 86_400_000 });
  const { leaseMs: lease, onWait, ...place } = resolveOptions(owner, { leaseMs, ...common }, options);
  const policy = prefixed(owner, () => concurrencyPolicy(capacity, Math.round(lease * 1000)));
  const { onClose, ...gate } = placed(owner, place);
  const made = new ConcurrencyLimit<Timing>({ rule: Object.freeze({ name, policy }), ...gate }, onClose);
  if (onWait !== undefined) made.on("wait", onWait);
  return made;
}

function ownerOf(kind: string, name: string): string {
  resolveOptions(kind, nameField, { name });
  return `${kind} ${JSON.stringify(name)}`;
}

interface Place {
  readonly store: LimitStore | undefined;
  readonly clock: Clock;
  readonly maxKeys: number | undefined;
  readonly maxWaiters: number;
}

interface Placed {
  readonly store: LimitStore;
  readonly clock: Clock;
  readonly maxWaiters: number;
  readonly onClose: () => void | PromiseLike<void>;
}

/** Where a limit keeps its state: in the store that was handed in, which stays open after it, or in one of its own. */
function placed(owner: string, { store, clock, maxKeys, maxWaiters }: Place): Placed {
  if (store === undefined) {
    const own = memory({ clock, ...(maxKeys === undefined ? {} : { maxKeys }) });
    return { store: own, clock, maxWaiters, onClose: () => own.close() };
  }
  if (maxKeys === undefined) return { store, clock, maxWaiters, onClose: () => {} };
  const message = `${owner}: option maxKeys: belongs to the store, which was handed in`;
  throw new SluiceError("invalid_option", message);
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
