import { type Clock, isClock, systemClock } from "../base/clock.ts";
import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import { custom, fn, integer, oneOf, optional, resolveOptions } from "../base/options.ts";
import { AutoConcurrency } from "./auto-concurrency.ts";
import type { Acquirable } from "./call-policy.ts";
import { type MapContext, type MapProgress, MapRun, type Pace } from "./map-run.ts";
import { asking, type KeyedAcquirable } from "./wrap.ts";

/** The options of {@link mapLimited}. All of them may be left out. */
export interface MapLimitedOptions<Item> {
  /** What each call waits for before it starts: first come, first served, in the order of the items. */
  readonly limit?: Acquirable | KeyedAcquirable;
  /** What an item takes of the limit; default 1. */
  readonly cost?: number | ((item: Item) => number);
  /** Whose budget an item draws from; default the limit's own. */
  readonly key?: string | ((item: Item) => string);
  /**
   * How many items are worked on at once, those that wait for the limit among them: from 1 to 100 000, or `auto` (the default),
   * which finds the best number by measurement, from 1 to `concurrencyMax`.
   */
  readonly concurrency?: number | "auto";
  /** The most that `auto` goes to: from 1 to 100 000; default 256. */
  readonly concurrencyMax?: number;
  /** Results in the order of the items, or as they come; default `input`. */
  readonly order?: "input" | "completion";
  /**
   * `abort`: the first error ends everything, is thrown, and is the reason of the signal that the others see (the default).
   * `collect`: results are as those of `Promise.allSettled`, and all items are worked on.
   */
  readonly errors?: "abort" | "collect";
  /** How many finished results may await the consumer of the iteration; default as many as are worked on at once. */
  readonly buffer?: number;
  /** Told after each item. */
  readonly onProgress?: (progress: MapProgress) => void;
  /** Ends everything when it fires; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Where `auto` takes time from; default the system's. For tests. */
  readonly clock?: Clock;
}

/**
 * The results of {@link mapLimited}: to be iterated, or awaited for the array of all. Work begins with the first of either, so
 * one that is neither iterated nor awaited does nothing. It can be used once.
 */
export interface MapLimited<Result> extends AsyncIterable<Result>, Promise<Result[]> {}

/** Items, from a list or as they come, without end if you like. */
export type MapSource<Item> = Iterable<Item | PromiseLike<Item>> | AsyncIterable<Item>;

const spec = {
  limit: optional(custom<Acquirable>("a limit", (value) => (isAcquirable(value) ? value : undefined))),
  cost: optional(custom<number>("a whole number of at least 1 or a function", (value) => value as number)),
  key: optional(custom<string>("a key or a function", (value) => value as string)),
  concurrency: custom<number | "auto">(
    'a whole number from 1 to 100000 or "auto"',
    (value) => (value === "auto" || isCount(value) ? value : undefined),
    { default: "auto" },
  ),
  concurrencyMax: integer({ default: 256, min: 1, max: 100_000 }),
  order: oneOf(["input", "completion"], { default: "input" }),
  errors: oneOf(["abort", "collect"], { default: "abort" }),
  buffer: optional(integer({ min: 0, max: 1_000_000_000 })),
  onProgress: optional(fn<(progress: MapProgress) => void>()),
  signal: optional(custom("an AbortSignal", (value) => (value instanceof AbortSignal ? value : undefined))),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
};

/**
 * Runs a function over items, no faster than a limit admits and no more at once than is good.
 *
 * The source is read as work goes on: never more items are taken than are worked on, wait in `buffer`, or are about to be handed
 * to the consumer, so it may be endless, and a slow consumer slows everything down. Who stops iterating (`break`) ends the rest:
 * the signal fires, the source is closed. Calls that do not heed the signal are not waited for; what becomes of them is ignored.
 *
 * @param call Called with an item and `{index, signal}`. May return a value or a promise.
 * @throws `invalid_option` at once; later what `call`, the source and the limit throw, or the signal's reason.
 *
 * @example
 *     const users = await mapLimited(ids, (id, { signal }) => fetchUser(id, signal), { limit: github });
 *     for await (const page of mapLimited(urls(), load, { limit: github, concurrency: "auto" })) save(page);
 */
export function mapLimited<Item, Result>(
  items: MapSource<Item>,
  call: (item: Item, context: MapContext) => Result | PromiseLike<Result>,
  options: MapLimitedOptions<Item> & { readonly errors: "collect" },
): MapLimited<PromiseSettledResult<Result>>;
export function mapLimited<Item, Result>(
  items: MapSource<Item>,
  call: (item: Item, context: MapContext) => Result | PromiseLike<Result>,
  options?: MapLimitedOptions<Item>,
): MapLimited<Result>;
export function mapLimited<Item, Result>(
  items: MapSource<Item>,
  call: (item: Item, context: MapContext) => Result | PromiseLike<Result>,
  options?: MapLimitedOptions<Item>,
): MapLimited<unknown> {
  const { limit, cost, key, concurrency, concurrencyMax, clock, ...rest } = resolveOptions(
    "mapLimited",
    spec,
    options,
  );
  if (typeof call !== "function")
    throw new SluiceError("invalid_option", `mapLimited: expected a function, got ${describeValue(call)}`);
  const admission =
    limit &&
    asking<[item: Item, signal: AbortSignal]>("mapLimited", limit, {
      ...(cost === undefined ? {} : { cost }),
      ...(key === undefined ? {} : { key }),
      signal: (_, signal) => signal,
    });
  const auto = concurrency === "auto" ? new AutoConcurrency({ min: 1, max: concurrencyMax }) : undefined;
  const pace = auto ?? fixedPace(concurrency as number);
  const run = new MapRun<Item, unknown>({
    source: sourceOf(items),
    total: totalOf(items),
    call,
    admission,
    pace,
    clock,
    ...rest,
  });
  return new Results(run);
}

function fixedPace(concurrency: number): Pace {
  const started = { startUs: 0, window: {} };
  return { concurrency, start: () => started, end() {} };
}

class Results<Result> implements MapLimited<Result> {
  readonly [Symbol.toStringTag] = "MapLimited";
  readonly #run: MapRun<unknown, Result>;
  #all: Promise<Result[]> | undefined;

  constructor(run: MapRun<never, Result>) {
    this.#run = run as unknown as MapRun<unknown, Result>;
  }

  [Symbol.asyncIterator](): AsyncIterator<Result> {
    return this.#run.iterate();
  }

  // biome-ignore lint/suspicious/noThenProperty: to be awaited is one of the two ways to use it.
  then<Kept = Result[], Caught = never>(
    onFulfilled?: ((results: Result[]) => Kept | PromiseLike<Kept>) | null,
    onRejected?: ((reason: unknown) => Caught | PromiseLike<Caught>) | null,
  ): Promise<Kept | Caught> {
    this.#all ??= this.#run.collect();
    return this.#all.then(onFulfilled, onRejected);
  }

  catch<Caught = never>(
    onRejected?: ((reason: unknown) => Caught | PromiseLike<Caught>) | null,
  ): Promise<Result[] | Caught> {
    return this.then(undefined, onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<Result[]> {
    return this.then().finally(onFinally);
  }
}

function sourceOf<Item>(items: MapSource<Item>): () => Iterator<unknown> | AsyncIterator<Item> {
  const given = items as Partial<AsyncIterable<Item> & Iterable<unknown>> | null | undefined;
  const isText = typeof given === "string";
  if (given !== null && given !== undefined && !isText) {
    if (typeof given[Symbol.asyncIterator] === "function") return () => given[Symbol.asyncIterator]!();
    if (typeof given[Symbol.iterator] === "function") return () => given[Symbol.iterator]!();
  }
  throw new SluiceError(
    "invalid_option",
    `mapLimited: expected items to iterate, got ${describeValue(items)}`,
  );
}

function totalOf(items: object): number | undefined {
  if (Array.isArray(items)) return items.length;
  return items instanceof Set || items instanceof Map ? items.size : undefined;
}

function isAcquirable(value: unknown): value is Acquirable {
  return typeof value === "object" && value !== null && typeof (value as Acquirable).acquire === "function";
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= 100_000;
}
