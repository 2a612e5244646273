import { custom, durationMs, optional, resolveOptions } from "../base/options.ts";
import { RateLimitExceeded } from "../limit/decision.ts";
import { type Acquirable, releaseHeld } from "./call-policy.ts";

/** A limit that has a budget for each key. */
export interface KeyedAcquirable extends Acquirable {
  for(key: string): Acquirable;
}

/** How {@link wrap} and `rateLimited` ask the limit, from the arguments of a call where they depend on them. */
export interface WrapOptions<Args extends readonly unknown[]> {
  /** What a call takes; default 1. */
  readonly cost?: number | ((...args: Args) => number);
  /** Whose budget it draws from; default the limit's own. */
  readonly key?: string | ((...args: Args) => string);
  /** The longest wait, in milliseconds; unbounded by default. A longer one rejects with `RateLimitExceeded`, at once. */
  readonly maxWaitMs?: number;
  /** Ends the wait when it fires, which rejects with its reason; may be found among the arguments. */
  readonly signal?: AbortSignal | ((...args: Args) => AbortSignal | undefined);
}

/** @internal What {@link WrapOptions} are once they have been read. */
export type Asking<Args extends readonly unknown[]> = (...args: Args) => Promise<object>;

const spec = {
  cost: custom<WrapOptions<never>["cost"] & {}>(
    "a whole number of at least 1 or a function",
    (value) =>
      typeof value === "function" || (Number.isSafeInteger(value) && (value as number) >= 1)
        ? (value as number)
        : undefined,
    { default: 1 },
  ),
  key: optional(
    custom<string>("a key or a function", (value) =>
      typeof value === "function" || typeof value === "string" ? (value as string) : undefined,
    ),
  ),
  maxWaitMs: optional(durationMs()),
  signal: optional(
    custom<AbortSignal>("an AbortSignal or a function", (value) =>
      typeof value === "function" || value instanceof AbortSignal ? (value as AbortSignal) : undefined,
    ),
  ),
};

/**
 * The same function under a limit: each call waits for its admission and then runs, with the same `this` and arguments. The slots
 * of a concurrency limit are held until it has ended.
 *
 * @returns A function of the same arguments that always returns a promise. It rejects with whatever `acquire` rejects with,
 *   with `RateLimitExceeded` when the wait would exceed `maxWaitMs`, and with what the function throws.
 * @throws `invalid_option`.
 *
 * @example
 *     const getUser = wrap(fetchUser, github);
 *     const getOrders = wrap(fetchOrders, perTenant, { key: (tenant) => tenant, cost: (_, ids) => ids.length });
 */
export function wrap<This, Args extends readonly unknown[], Result>(
  fn: (this: This, ...args: Args) => Result,
  limit: Acquirable | KeyedAcquirable,
  options?: WrapOptions<Args>,
): (this: This, ...args: Args) => Promise<Awaited<Result>> {
  const admission = asking("wrap", limit, options);
  const wrapped = async function (this: This, ...args: Args): Promise<Awaited<Result>> {
    const decision = await admission(...args);
    try {
      return await fn.apply(this, args as never);
    } finally {
      await releaseHeld(decision);
    }
  };
  // Loggers and frameworks read both.
  Object.defineProperty(wrapped, "name", { value: fn.name, configurable: true });
  Object.defineProperty(wrapped, "length", { value: fn.length, configurable: true });
  return wrapped;
}

/** @internal Reads the options, and returns what waits for the admission of one call. */
export function asking<Args extends readonly unknown[]>(
  owner: string,
  limit: Acquirable | KeyedAcquirable,
  options: WrapOptions<Args> | undefined,
): Asking<Args> {
  const { cost, key, maxWaitMs, signal } = resolveOptions(owner, spec, options) as WrapOptions<Args>;
  return async (...args) => {
    const ownKey = typeof key === "function" ? key(...args) : key;
    const ownSignal = typeof signal === "function" ? signal(...args) : signal;
    const budget = ownKey === undefined ? limit : (limit as KeyedAcquirable).for(ownKey);
    const decision = await budget.acquire(typeof cost === "function" ? cost(...args) : cost, {
      ...(ownSignal === undefined ? {} : { signal: ownSignal }),
      ...(maxWaitMs === undefined ? {} : { maxWaitMs }),
    });
    if (!decision.allowed) throw new RateLimitExceeded(decision);
    return decision;
  };
}
