import { custom, isLimitStore, type LimitStore, resolveOptions, SluiceError, string } from "@sluice/core";
import { WindowCounter } from "./window-counter.ts";

/** The options of {@link expressRateLimitStore}. */
export interface ExpressRateLimitStoreOptions {
  /**
   * What the counts are stored under; default `express-rate-limit`. Two middlewares that share a store and a window need two
   * prefixes, or they count together.
   */
  readonly prefix?: string;
}

/** A `Store` as express-rate-limit 7 and 8 take it. */
export interface ExpressRateLimitStore {
  readonly prefix: string;
  readonly localKeys: boolean;
  init(options: { readonly windowMs: number }): void;
  get(key: string): Promise<{ totalHits: number; resetTime: Date | undefined } | undefined>;
  increment(key: string): Promise<{ totalHits: number; resetTime: Date | undefined }>;
  decrement(key: string): Promise<void>;
  resetKey(key: string): Promise<void>;
}

const spec = { prefix: string({ default: "express-rate-limit", maxLength: 100 }) };

/**
 * A store for express-rate-limit on any store of Sluice, with counts as its own memory store has them. Each middleware needs
 * one of its own; the store underneath may be shared, and stays open when the middleware is shut down. `resetAll` is missing.
 * @throws `invalid_option`.
 *
 * @example
 *     app.use(rateLimit({ windowMs: 60_000, limit: 100, store: expressRateLimitStore(redis(client)) }));
 */
export function expressRateLimitStore(
  store: LimitStore,
  options?: ExpressRateLimitStoreOptions,
): ExpressRateLimitStore {
  const { prefix } = resolveOptions("expressRateLimitStore", spec, options);
  requireStore("expressRateLimitStore", store);
  let counter: WindowCounter | undefined;
  const counts = (): WindowCounter => {
    if (counter !== undefined) return counter;
    throw new SluiceError(
      "invalid_option",
      "expressRateLimitStore: hand it to rateLimit() before it is used",
    );
  };
  return {
    prefix,
    localKeys: false,
    init({ windowMs }) {
      counter = new WindowCounter(store, prefix, windowMs);
    },
    async get(key) {
      const count = await counts().read(key);
      return count.count === 0 ? undefined : info(count);
    },
    increment: async (key) => info(await counts().add(key)),
    decrement: (key) => counts().takeBack(key),
    resetKey: (key) => counts().reset(key),
  };
}

/** The reset as an instant of this machine, by whose `Date` express-rate-limit works out the time left. */
function info({ count, resetMs }: { readonly count: number; readonly resetMs: number }): {
  totalHits: number;
  resetTime: Date;
} {
  return { totalHits: count, resetTime: new Date(Date.now() + resetMs) };
}

/** @throws `invalid_option`, in the name of `owner`. */
export function requireStore(owner: string, store: LimitStore): void {
  const isStore = custom("a store of @sluice/core", (value) => (isLimitStore(value) ? value : undefined));
  resolveOptions(owner, { store: isStore }, { store });
}
