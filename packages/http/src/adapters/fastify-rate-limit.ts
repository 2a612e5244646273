/**
 * A store for @fastify/rate-limit. Its two special modes prolong the window with every request beyond `max`: to a whole one
 * (`continueExceeding`), or to twice the time before (`exponentialBackoff`). Here the first request beyond `max` blocks the
 * key, each further one prolongs the block, and a second count says how many there were, for `ban` and the backoff. Whether
 * a request is beyond `max` is decided by one atomic step in all modes.
 */
import { type LimitStore, resolveOptions, string } from "@sluice/core";
import { safeKey } from "../keys/key.ts";
import { requireStore } from "./express-rate-limit.ts";
import { type CountedKey, WindowCounter } from "./window-counter.ts";

/** The options of {@link fastifyRateLimitStore}. */
export interface FastifyRateLimitStoreOptions {
  /** What the counts are stored under; default `fastify-rate-limit`. Routes with limits of their own add method and path. */
  readonly prefix?: string;
}

/** What of its options @fastify/rate-limit hands to a store when it makes one. */
export interface FastifyRateLimitParameters {
  readonly continueExceeding?: boolean;
  readonly exponentialBackoff?: boolean;
}

/** And for a route: in truth all that, and the route; its types say something else. */
interface RouteParameters extends FastifyRateLimitParameters {
  readonly routeInfo?: { readonly method?: string | readonly string[]; readonly url?: string };
}

/** How @fastify/rate-limit is answered. */
export type FastifyRateLimitCallback = (
  error: Error | null,
  result?: { current: number; ttl: number },
) => void;

/** A store as @fastify/rate-limit 10 and 11 take it. */
export interface FastifyRateLimitStore {
  incr(key: CountedKey, callback: FastifyRateLimitCallback, timeWindow: number, max: number): void;
  read(key: CountedKey, callback: FastifyRateLimitCallback, timeWindow: number, max: number): void;
  child(route: object): FastifyRateLimitStore;
}

/** The longest a key can be blocked: a day. */
const dayMs = 86_400_000;
/** How many windows of different lengths are remembered; there are mostly one or two. */
const windowsMax = 100;

const spec = { prefix: string({ default: "fastify-rate-limit", maxLength: 100 }) };

/**
 * Makes the class that @fastify/rate-limit takes as `store`, on any store of Sluice. A block of `continueExceeding` or
 * `exponentialBackoff` lasts at most 24 hours.
 * @throws `invalid_option`.
 *
 * @example
 *     await app.register(rateLimit, { max: 100, timeWindow: 60_000, store: fastifyRateLimitStore(redis(client)) });
 */
export function fastifyRateLimitStore(
  store: LimitStore,
  options?: FastifyRateLimitStoreOptions,
): new (
  parameters: FastifyRateLimitParameters,
) => FastifyRateLimitStore {
  const { prefix } = resolveOptions("fastifyRateLimitStore", spec, options);
  requireStore("fastifyRateLimitStore", store);
  return class extends RouteStore {
    constructor(parameters: FastifyRateLimitParameters) {
      super(store, prefix, parameters);
    }
  };
}

/** The counts of one window. */
interface Counters {
  readonly all: WindowCounter;
  /** Those beyond `max`, since they began. */
  readonly beyond: WindowCounter;
}

class RouteStore implements FastifyRateLimitStore {
  readonly #store: LimitStore;
  readonly #name: string;
  readonly #parameters: FastifyRateLimitParameters;
  readonly #counters = new Map<number, Counters>();

  constructor(store: LimitStore, name: string, parameters: FastifyRateLimitParameters) {
    this.#store = store;
    this.#name = name;
    this.#parameters = parameters;
  }

  incr(key: CountedKey, callback: FastifyRateLimitCallback, timeWindow: number, max: number): void {
    answer(callback, this.#count(key, timeWindow, max));
  }

  read(key: CountedKey, callback: FastifyRateLimitCallback, timeWindow: number, max: number): void {
    answer(callback, this.#look(key, timeWindow, max));
  }

  child(route: object): FastifyRateLimitStore {
    const parameters: RouteParameters = route;
    const { method = "", url = "" } = parameters.routeInfo ?? {};
    return new RouteStore(this.#store, safeKey(`${this.#name}:${method}${url}`), parameters);
  }

  async #count(key: CountedKey, timeWindow: number, max: number): Promise<Reading> {
    if (timeWindow < 1) return { current: 1, ttl: 0 };
    const { all, beyond } = this.#countersOf(timeWindow);
    if (!this.#isProlonging) return readingOf(await all.add(key));
    const counted = await all.addUnlessBlocked(key);
    if (counted !== undefined && counted.count <= max) return readingOf(counted);
    if (counted?.count === max + 1) await beyond.reset(key);
    const { count } = await beyond.add(key);
    const ttl = this.#prolongedMs(timeWindow, count);
    await all.block(key, ttl);
    return { current: max + count, ttl };
  }

  async #look(key: CountedKey, timeWindow: number, max: number): Promise<Reading> {
    if (timeWindow < 1) return { current: 0, ttl: 0 };
    const { all, beyond } = this.#countersOf(timeWindow);
    const blockedMs = this.#isProlonging ? await all.blockedMs(key) : 0;
    if (blockedMs === 0) return readingOf(await all.read(key));
    return { current: max + (await beyond.read(key)).count, ttl: Math.ceil(blockedMs) };
  }

  get #isProlonging(): boolean {
    return this.#parameters.continueExceeding === true || this.#parameters.exponentialBackoff === true;
  }

  #prolongedMs(timeWindow: number, beyond: number): number {
    if (this.#parameters.continueExceeding === true) return timeWindow;
    return Math.min(timeWindow * 2 ** Math.min(beyond - 1, 60), Math.max(timeWindow, dayMs));
  }

  #countersOf(timeWindow: number): Counters {
    const known = this.#counters.get(timeWindow);
    if (known !== undefined) return known;
    if (this.#counters.size >= windowsMax) this.#counters.clear();
    const made = {
      all: new WindowCounter(this.#store, this.#name, timeWindow),
      beyond: new WindowCounter(this.#store, `${this.#name}:beyond`, Math.max(timeWindow, dayMs)),
    };
    this.#counters.set(timeWindow, made);
    return made;
  }
}

interface Reading {
  readonly current: number;
  /** Milliseconds. */
  readonly ttl: number;
}

function readingOf({ count, resetMs }: { readonly count: number; readonly resetMs: number }): Reading {
  return { current: count, ttl: Math.ceil(resetMs) };
}

function answer(callback: FastifyRateLimitCallback, reading: Promise<Reading>): void {
  reading.then(
    (result) => callback(null, result),
    (error: unknown) => callback(error instanceof Error ? error : new Error(String(error))),
  );
}
