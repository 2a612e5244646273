import {
  type LimitRule,
  type LimitStore,
  parseRate,
  periodUsMax,
  ratePolicy,
  type Verdict,
} from "@sluice/core";
import { safeKey } from "../keys/key.ts";

/** How much a window can count to: more than anybody asks of it. */
const countMax = 1_000_000_000;

/** What is counted: middleware in use hands over numbers as well as texts. */
export type CountedKey = string | number;

/** A count, and how long until it begins anew. */
export interface Count {
  readonly count: number;
  /** Milliseconds until the window ends; 0 when nothing was counted. */
  readonly resetMs: number;
}

/**
 * Counts of requests per key, in windows that begin with the first: what the middleware of others keeps, on a store of ours.
 * It is a fixed window that nobody can use up, so each operation is one atomic step of the store, and its clock the store's.
 */
export class WindowCounter {
  readonly #store: LimitStore;
  readonly #rule: LimitRule;

  /** @param name What the counts are stored under; counters of one name and window share them. */
  constructor(store: LimitStore, name: string, windowMs: number) {
    this.#store = store;
    this.#rule = windowRule(`${name}:${windowMs}`, countMax, windowMs);
  }

  async add(key: CountedKey): Promise<Count> {
    return countOf(await this.#store.consume(this.#rule, textOf(key), 1));
  }

  async read(key: CountedKey): Promise<Count> {
    return countOf(await this.#store.peek(this.#rule, textOf(key), 1));
  }

  /** Takes one back, if the window that runs has counted any. */
  async takeBack(key: CountedKey): Promise<void> {
    const { atUs } = await this.#store.peek(this.#rule, textOf(key), 1);
    // Should the window end in between, its instant is of no window any more, and nothing is given back.
    await this.#store.settle(this.#rule, textOf(key), { atUs, cost: 1 }, 0);
  }

  async reset(key: CountedKey): Promise<void> {
    await this.#store.reset(this.#rule, textOf(key));
  }

  /**
   * Like `add`, unless the key is blocked: undefined then.
   * @see block
   */
  async addUnlessBlocked(key: CountedKey): Promise<Count | undefined> {
    const verdict = await this.#store.consume(this.#rule, textOf(key), 1);
    return verdict.allowed ? countOf(verdict) : undefined;
  }

  /** For how long a key is blocked, in milliseconds; 0 when it is not. */
  async blockedMs(key: CountedKey): Promise<number> {
    return (await this.#store.peek(this.#rule, textOf(key), 1)).retryAfterUs / 1000;
  }

  /** Blocks a key for at most 24 hours; the later of two blocks holds. */
  async block(key: CountedKey, forMs: number): Promise<void> {
    await this.#store.block(this.#rule, textOf(key), Math.ceil(forMs * 1000));
  }
}

/** A rule of a fixed window that begins with the first request; of ten years, should the window be longer. */
export function windowRule(name: string, limit: number, windowMs: number): LimitRule {
  const rate = parseRate({ limit, periodMs: Math.min(windowMs, periodUsMax / 1000) });
  const policy = ratePolicy(rate, { algorithm: "fixed-window", align: "first-request" });
  return Object.freeze({ name, policy });
}

function textOf(key: CountedKey): string {
  return safeKey(String(key));
}

function countOf({ remaining, resetAtUs, atUs }: Verdict): Count {
  const count = countMax - remaining;
  return { count, resetMs: count === 0 ? 0 : Math.max(0, resetAtUs - atUs) / 1000 };
}
