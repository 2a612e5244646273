/**
 * The memory store: limits of one process, on its monotonic clock, answered at once.
 *
 * Bounded, and it never forgets what was consumed. A key whose whole capacity is back is the same as one never used, so it is
 * dropped: every new key pays for looking at a few others, which keeps the table within a small multiple of the keys in use
 * without timers or sweeps. When the bound is reached and those few are all in use, the new key is refused with
 * `too_many_keys`; evicting one that is in use would hand it a fresh budget.
 */
import { type Clock, isClock, systemClock } from "../../base/clock.ts";
import { SluiceError } from "../../base/errors.ts";
import { custom, integer, resolveOptions } from "../../base/options.ts";
import { type RateState, rateConsume, rateIsIdle, ratePeek } from "../../limit/algorithms/policy.ts";
import type { Verdict } from "../../limit/algorithms/verdict.ts";
import type { LimitRule, LimitStore } from "../../limit/store.ts";

/** The options of {@link memory}. */
export interface MemoryStoreOptions {
  /** Where time comes from; default the system's monotonic clock. */
  readonly clock?: Clock;
  /** The most keys in use at once, over all limits of the store: from 1 to 10 million; default 1 000 000. */
  readonly maxKeys?: number;
}

/** A store within the process: every operation answers at once. Made by {@link memory}. */
export interface MemoryStore extends LimitStore {
  /** How many keys are held: those in use, and idle ones not dropped yet. */
  readonly keyCount: number;
  consume(rule: LimitRule, key: string, cost: number): Verdict;
  peek(rule: LimitRule, key: string, cost: number): Verdict;
  reset(rule: LimitRule, key: string): void;
  close(): void;
}

/**
 * Makes a memory store, for limits that should share one bound on keys. A limit declared without a store has its own.
 * @throws `invalid_option`.
 */
export function memory(options?: MemoryStoreOptions): MemoryStore {
  const { clock, maxKeys } = resolveOptions(
    "memory store",
    {
      clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
      maxKeys: integer({ default: 1_000_000, min: 1, max: 10_000_000 }),
    },
    options,
  );
  return new TableStore(clock, maxKeys);
}

/** How many keys a new key looks at: two, so that idle ones go faster than new ones come; more when the store is full. */
const examined = { usually: 2, whenFull: 64 };

/** The keys of one limit. */
interface Table {
  readonly rule: LimitRule;
  readonly states: Map<string, RateState>;
}

class TableStore implements MemoryStore {
  readonly #clock: Clock;
  readonly #maxKeys: number;
  readonly #tables = new Map<string, Table>();
  /** The same tables by the rules that were found to belong to them. */
  readonly #tableOfRule = new WeakMap<LimitRule, Table>();
  /** Goes round all keys for ever; a Map's iterator keeps its place while entries come and go. */
  readonly #round = this.#goRound();
  #keyCount = 0;
  #closed = false;

  constructor(clock: Clock, maxKeys: number) {
    this.#clock = clock;
    this.#maxKeys = maxKeys;
  }

  get keyCount(): number {
    return this.#keyCount;
  }

  consume(rule: LimitRule, key: string, cost: number): Verdict {
    const { states } = this.#tableFor(rule);
    const before = states.get(key);
    const nowUs = this.#clock.nowUs();
    const { state, verdict } = rateConsume(before, nowUs, cost, rule.policy);
    if (before === undefined) {
      if (!verdict.allowed) return verdict;
      this.#makeRoom(nowUs);
      this.#keyCount++;
    }
    if (state !== before) states.set(key, state);
    return verdict;
  }

  peek(rule: LimitRule, key: string, cost: number): Verdict {
    return ratePeek(this.#tableFor(rule).states.get(key), this.#clock.nowUs(), cost, rule.policy);
  }

  reset(rule: LimitRule, key: string): void {
    if (this.#tableFor(rule).states.delete(key)) this.#keyCount--;
  }

  close(): void {
    this.#closed = true;
    this.#tables.clear();
    this.#keyCount = 0;
  }

  #tableFor(rule: LimitRule): Table {
    if (this.#closed) throw new SluiceError("closed", "the memory store is closed");
    return this.#tableOfRule.get(rule) ?? this.#openTable(rule);
  }

  #openTable(rule: LimitRule): Table {
    const table = this.#tables.get(rule.name) ?? { rule, states: new Map<string, RateState>() };
    if (JSON.stringify(table.rule.policy) !== JSON.stringify(rule.policy)) {
      throw new SluiceError(
        "already_declared",
        `limit ${JSON.stringify(rule.name)}: the store already holds a limit of this name with another rule`,
      );
    }
    this.#tables.set(rule.name, table);
    this.#tableOfRule.set(rule, table);
    return table;
  }

  #makeRoom(nowUs: number): void {
    let left = this.#keyCount < this.#maxKeys ? examined.usually : examined.whenFull;
    for (; left > 0 && this.#keyCount > 0; left--) {
      const { table, key, state } = this.#round.next().value;
      if (!rateIsIdle(state, nowUs, table.rule.policy)) continue;
      table.states.delete(key);
      this.#keyCount--;
    }
    if (this.#keyCount < this.#maxKeys) return;
    throw new SluiceError(
      "too_many_keys",
      `the memory store holds ${this.#maxKeys} keys in use (option maxKeys)`,
      {
        details: { maxKeys: this.#maxKeys },
      },
    );
  }

  /** Every key in turn. Only to be asked while there is one. */
  *#goRound(): Generator<{ table: Table; key: string; state: RateState }, never> {
    for (;;) {
      for (const table of this.#tables.values()) {
        for (const [key, state] of table.states) yield { table, key, state };
      }
    }
  }
}
