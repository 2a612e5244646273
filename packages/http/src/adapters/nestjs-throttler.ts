import {
  type LimitRule,
  type LimitStore,
  parseRate,
  periodUsMax,
  rateLimitMax,
  ratePolicy,
  resolveOptions,
  string,
} from "@sluice/core";
import { safeKey } from "../keys/key.ts";
import { requireStore } from "./express-rate-limit.ts";
import { windowRule } from "./window-counter.ts";

/** The options of {@link nestThrottlerStorage}. */
export interface NestThrottlerStorageOptions {
  /** What the counts are stored under; default `nestjs-throttler`. */
  readonly prefix?: string;
}

/** What a `ThrottlerStorage` is called with. */
export type NestThrottlerArguments = readonly [
  key: string,
  ttl: number,
  limit: number,
  blockDuration: number,
  throttlerName?: string,
];

/** A `ThrottlerStorage` as @nestjs/throttler 6 takes it; durations in milliseconds, those of the answer in seconds. */
export interface NestThrottlerStorage {
  increment(
    ...hit: NestThrottlerArguments
  ): Promise<{ totalHits: number; timeToExpire: number; isBlocked: boolean; timeToBlockExpire: number }>;
}

type Answered = Awaited<ReturnType<NestThrottlerStorage["increment"]>>;

const spec = { prefix: string({ default: "nestjs-throttler", maxLength: 100 }) };
/** How many pairs of limit and window are remembered. */
const rulesMax = 1000;

/**
 * A storage for @nestjs/throttler on any store of Sluice. As with its own, each request counts for `ttl`; the one beyond
 * `limit` blocks the key for `blockDuration` (at most 24 hours), after which it begins anew; with a `blockDuration` of 0 a
 * request is refused as long as `limit` others count. Unlike its own, counting and deciding are one atomic step for all
 * processes together.
 * @throws `invalid_option`.
 *
 * @example
 *     ThrottlerModule.forRoot({ throttlers: [{ ttl: 60_000, limit: 100 }], storage: nestThrottlerStorage(redis(client)) })
 */
export function nestThrottlerStorage(
  store: LimitStore,
  options?: NestThrottlerStorageOptions,
): NestThrottlerStorage {
  const { prefix } = resolveOptions("nestThrottlerStorage", spec, options);
  requireStore("nestThrottlerStorage", store);
  return new Storage(store, prefix);
}

/** The limit of one throttler, and beside it what is blocked for having gone beyond. */
interface Rules {
  readonly counted: LimitRule;
  readonly blocked: LimitRule;
}

class Storage implements NestThrottlerStorage {
  readonly #store: LimitStore;
  readonly #prefix: string;
  readonly #rules = new Map<string, Rules>();

  constructor(store: LimitStore, prefix: string) {
    this.#store = store;
    this.#prefix = prefix;
  }

  async increment(
    ...[key, ttl, limit, blockDuration, throttlerName = "default"]: NestThrottlerArguments
  ): Promise<Answered> {
    const most = Math.min(Math.floor(limit), rateLimitMax);
    if (ttl < 1) return { totalHits: 1, timeToExpire: 0, isBlocked: most < 1, timeToBlockExpire: 0 };
    if (most < 1) {
      const untilMs = Math.max(blockDuration, 1000);
      return {
        totalHits: 1,
        timeToExpire: seconds(ttl),
        isBlocked: true,
        timeToBlockExpire: seconds(untilMs),
      };
    }
    const rules = this.#rulesOf(throttlerName, most, ttl);
    const safe = safeKey(String(key));
    return blockDuration > 0
      ? this.#countOrBlock(rules, safe, { most, ttl, blockDuration })
      : this.#countOrRefuse(rules.counted, safe, most);
  }

  async #countOrRefuse(rule: LimitRule, key: string, most: number): Promise<Answered> {
    const { allowed, remaining, resetAtUs, atUs, retryAfterUs } = await this.#store.consume(rule, key, 1);
    return {
      totalHits: allowed ? most - remaining : most + 1,
      timeToExpire: seconds((resetAtUs - atUs) / 1000),
      isBlocked: !allowed,
      timeToBlockExpire: seconds(retryAfterUs / 1000),
    };
  }

  async #countOrBlock(
    { counted, blocked }: Rules,
    key: string,
    {
      most,
      ttl,
      blockDuration,
    }: { readonly most: number; readonly ttl: number; readonly blockDuration: number },
  ): Promise<Answered> {
    const draws = [counted, blocked].map((rule) => ({ rule, key, cost: 1 }));
    const [count, block] = await this.#store.consumeAll(draws);
    const refused = { totalHits: most + 1, timeToExpire: seconds(ttl), isBlocked: true };
    if (!block!.allowed) return { ...refused, timeToBlockExpire: seconds(block!.retryAfterUs / 1000) };
    if (!count!.allowed) {
      // First the block and then the fresh start: the other way round somebody could slip through between the two.
      await this.#store.block(blocked, key, Math.ceil(blockDuration * 1000));
      await this.#store.reset(counted, key);
      return { ...refused, timeToBlockExpire: seconds(blockDuration) };
    }
    return {
      totalHits: most - count!.remaining,
      timeToExpire: seconds((count!.resetAtUs - count!.atUs) / 1000),
      isBlocked: false,
      timeToBlockExpire: 0,
    };
  }

  #rulesOf(throttlerName: string, limit: number, ttl: number): Rules {
    const name = safeKey(`${this.#prefix}:${throttlerName}:${limit}/${ttl}`);
    const known = this.#rules.get(name);
    if (known !== undefined) return known;
    if (this.#rules.size >= rulesMax) this.#rules.clear();
    const periodMs = Math.min(ttl, periodUsMax / 1000);
    const policy = ratePolicy(parseRate({ limit, periodMs }), { algorithm: "sliding-window" });
    const made = {
      counted: Object.freeze({ name, policy }),
      blocked: windowRule(`${name}:block`, rateLimitMax, ttl),
    };
    this.#rules.set(name, made);
    return made;
  }
}

function seconds(ms: number): number {
  return Math.max(0, Math.ceil(ms / 1000));
}
