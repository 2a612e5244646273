/**
 * Remembers denials, so that a key which is asked again and again before its time costs the store nothing: a flood on one key
 * is answered from memory.
 *
 * It never denies what the store would have denied for longer than it said, and never admits anything:
 *
 * - A denial is repeated for the same limit, key and cost only, until the time the store said, counted from when the question
 *   was sent. Another cost is another question: a smaller one may pass, and the times of a larger one are not known.
 * - Whatever changes a key through this store forgets its denials: `reset`, `block`, `settle`, `release`. So does an answer that
 *   set out before such a change and arrives after it.
 * - Another rate of a limit begins with nothing remembered.
 * - What other processes give back or reset goes unseen for at most `ttlMs`.
 *
 * `remaining` is that of the denial; for cost 1 that is 0 all along. Bounded: beyond `maxKeys` keys of a limit the oldest
 * denial is forgotten, which costs a question and nothing else.
 */
import { type Clock, isClock, systemClock } from "../base/clock.ts";
import { custom, durationMs, integer, resolveOptions } from "../base/options.ts";
import type { Charge, Verdict } from "../limit/algorithms/verdict.ts";
import { type Answer, type Draw, isLater, type LimitRule, type LimitStore } from "../limit/store.ts";
import { requireBelow, standsOn } from "./ladder.ts";

/** The options of {@link cachedDenials}. */
export interface CachedDenialsOptions {
  /** How long a denial is remembered at the most, in milliseconds: from 1 to an hour; default 1 000. */
  readonly ttlMs?: number;
  /** Of how many keys of each limit denials are remembered: from 1 to 10 million; default 10 000. */
  readonly maxKeys?: number;
  /** Where time comes from; default the system's. For tests. */
  readonly clock?: Clock;
}

const spec = {
  ttlMs: durationMs({ default: 1000, min: 1, max: 3_600_000 }),
  maxKeys: integer({ default: 10_000, min: 1, max: 10_000_000 }),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
};

/**
 * Makes a store that answers from memory what another one has just denied. For stores that are far away.
 * @throws `invalid_option`; also when `store` is `leased` or `guarded` already, which go around this one.
 *
 * @example
 *     const store = guarded(cachedDenials(redis(client)));
 *     const perUser = limit("per-user", "100/60s", { store });
 */
export function cachedDenials(store: LimitStore, options?: CachedDenialsOptions): LimitStore {
  requireBelow("cachedDenials", store);
  const resolved = resolveOptions("cached denials", spec, options);
  const made = new CachedDenials(store, resolved);
  standsOn(made, "cachedDenials");
  return made;
}

/** A denial of one cost, in the time of this process. */
interface Denial {
  readonly cost: number;
  readonly verdict: Verdict;
  /** When the question was sent. */
  readonly sentUs: number;
  /** Until when it may be repeated. */
  readonly untilUs: number;
}

/** The denials of one limit. Each key has its last one only: who asks for two costs in turn asks the store. */
interface Table {
  readonly policy: string;
  readonly denials: Map<string, Denial>;
}

/** How many counters of changes there are: keys share them, and a shared one forgets a denial too many. A power of two. */
const counters = 1024;

class CachedDenials implements LimitStore {
  readonly #store: LimitStore;
  readonly #clock: Clock;
  readonly #ttlUs: number;
  readonly #maxKeys: number;
  /** By name of the limit, and by the rules that were found to belong to it. */
  readonly #tables = new Map<string, Table>();
  readonly #tableOfRule = new WeakMap<LimitRule, Table>();
  readonly #changes = new Uint32Array(counters);

  constructor(
    store: LimitStore,
    options: { readonly clock: Clock; readonly ttlMs: number; readonly maxKeys: number },
  ) {
    this.#store = store;
    this.#clock = options.clock;
    this.#ttlUs = Math.floor(options.ttlMs * 1000);
    this.#maxKeys = options.maxKeys;
  }

  consume(rule: LimitRule, key: string, cost: number): Answer<Verdict> {
    return (
      this.#remembered(rule, key, cost) ??
      this.#asked(rule, key, cost, () => this.#store.consume(rule, key, cost))
    );
  }

  consumeUpTo(rule: LimitRule, key: string, most: number): Answer<Verdict> {
    // It is denied as cost 1 is.
    return (
      this.#remembered(rule, key, 1) ??
      this.#asked(rule, key, 1, () => this.#store.consumeUpTo(rule, key, most))
    );
  }

  consumeAll(draws: readonly Draw[]): Answer<readonly Verdict[]> {
    // Never from memory: the answer names every limit that refuses, and only the store knows all of them.
    return this.#store.consumeAll(draws);
  }

  peek(rule: LimitRule, key: string, cost: number): Answer<Verdict> {
    return this.#store.peek(rule, key, cost);
  }

  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Answer<void> {
    return this.#changing(rule, key, () => this.#store.settle(rule, key, charge, actual));
  }

  block(rule: LimitRule, key: string, forUs: number): Answer<void> {
    return this.#changing(rule, key, () => this.#store.block(rule, key, forUs));
  }

  renew(rule: LimitRule, key: string, fence: number): Answer<number | undefined> {
    return this.#store.renew(rule, key, fence);
  }

  release(rule: LimitRule, key: string, fence: number): Answer<boolean> {
    return this.#changing(rule, key, () => this.#store.release(rule, key, fence));
  }

  reset(rule: LimitRule, key: string): Answer<void> {
    return this.#changing(rule, key, () => this.#store.reset(rule, key));
  }

  close(): Answer<void> {
    return this.#store.close();
  }

  #remembered(rule: LimitRule, key: string, cost: number): Verdict | undefined {
    const denials = this.#denialsOf(rule);
    const denial = denials.get(key);
    if (denial === undefined || denial.cost !== cost) return undefined;
    const nowUs = this.#clock.nowUs();
    if (nowUs >= denial.untilUs) {
      denials.delete(key);
      return undefined;
    }
    const { verdict, sentUs } = denial;
    const elapsedUs = nowUs - sentUs;
    return { ...verdict, retryAfterUs: verdict.retryAfterUs - elapsedUs, atUs: verdict.atUs + elapsedUs };
  }

  #asked(rule: LimitRule, key: string, cost: number, ask: () => Answer<Verdict>): Answer<Verdict> {
    const sentUs = this.#clock.nowUs();
    const counter = counterOf(key);
    const changes = this.#changes[counter];
    const learn = (verdict: Verdict): Verdict => {
      if (!verdict.allowed && verdict.mode === undefined && this.#changes[counter] === changes)
        this.#remember(rule, key, { cost, verdict, sentUs });
      return verdict;
    };
    const answer = ask();
    return isLater(answer) ? answer.then(learn) : learn(answer);
  }

  #remember(rule: LimitRule, key: string, denial: Omit<Denial, "untilUs">): void {
    const { sentUs, verdict } = denial;
    const denials = this.#denialsOf(rule);
    // Taken out first, so that the order of the map is that of age.
    denials.delete(key);
    if (denials.size >= this.#maxKeys) denials.delete(denials.keys().next().value!);
    denials.set(key, { ...denial, untilUs: sentUs + Math.min(verdict.retryAfterUs, this.#ttlUs) });
  }

  /** Forgets before the change, and after it: what is denied in between may have been decided before. */
  #changing<Result>(rule: LimitRule, key: string, change: () => Answer<Result>): Answer<Result> {
    this.#forget(rule, key);
    const answer = change();
    if (!isLater(answer)) return answer;
    const forget = (): void => this.#forget(rule, key);
    return answer.then(
      (result) => {
        forget();
        return result;
      },
      (error: unknown) => {
        forget();
        throw error;
      },
    );
  }

  #forget(rule: LimitRule, key: string): void {
    const counter = counterOf(key);
    this.#changes[counter]!++;
    this.#denialsOf(rule).delete(key);
  }

  #denialsOf(rule: LimitRule): Map<string, Denial> {
    return (this.#tableOfRule.get(rule) ?? this.#openTable(rule)).denials;
  }

  #openTable(rule: LimitRule): Table {
    const policy = JSON.stringify(rule.policy);
    let table = this.#tables.get(rule.name);
    if (table?.policy !== policy) {
      table = { policy, denials: new Map() };
      this.#tables.set(rule.name, table);
    }
    this.#tableOfRule.set(rule, table);
    return table;
  }
}

/** FNV-1a: keys that share a counter cost each other a question, so the hash need not withstand anybody. */
function counterOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return (hash ^ (hash >>> 15)) & (counters - 1);
}
