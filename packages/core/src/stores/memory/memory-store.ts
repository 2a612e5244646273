/**
 * The memory store: limits of one process, on its monotonic clock, answered at once.
 *
 * Bounded, and it never forgets what was consumed. A key whose whole capacity is back is the same as one never used, so it is
 * dropped: every new key pays for looking at a few others, which keeps the tables within a small multiple of the keys in use
 * without timers or sweeps. When the bound is reached and those few are all in use, the new key is refused with
 * `too_many_keys`; evicting one that is in use would hand it a fresh budget.
 */
import { type Clock, isClock, systemClock } from "../../base/clock.ts";
import { SluiceError } from "../../base/errors.ts";
import { custom, integer, resolveOptions } from "../../base/options.ts";
import { type Policy, type RateState, rateConvert } from "../../limit/algorithms/policy.ts";
import type { Charge, Verdict } from "../../limit/algorithms/verdict.ts";
import type { Draw, LimitRule, NearStore } from "../../limit/store.ts";
import { BucketTable } from "./bucket-table.ts";
import { FixedWindowTable } from "./fixed-window-table.ts";
import { type BudgetState, type KeyTable, storeIsClosed, type TableHome } from "./key-table.ts";
import { LeaseTable } from "./lease-table.ts";
import { SlidingWindowTable } from "./sliding-window-table.ts";

/** The options of {@link memory}. */
export interface MemoryStoreOptions {
  /** Where time comes from; default the system's monotonic clock. */
  readonly clock?: Clock;
  /** The most keys in use at once, over all limits of the store: from 1 to 10 million; default 1 000 000. */
  readonly maxKeys?: number;
}

/** A store within the process: every operation answers at once. Made by {@link memory}. */
export interface MemoryStore extends NearStore {
  /** How many keys are held: those in use, and idle ones not dropped yet. */
  readonly keyCount: number;
}

/**
 * Makes a memory store, for limits that are asked together (`all`) or should share one bound on keys. A limit declared
 * without a store has its own.
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

class TableStore implements MemoryStore, TableHome {
  readonly clock: Clock;
  keyCount = 0;
  readonly #maxKeys: number;
  readonly #tables = new Map<string, KeyTable>();
  /** The same tables by the rules that were found to belong to them. */
  #tableOfRule = new WeakMap<LimitRule, KeyTable>();
  /** The tables in the order of the sweep, and the one it is at. */
  #round: readonly KeyTable[] = [];
  #at = 0;
  #closed = false;

  constructor(clock: Clock, maxKeys: number) {
    this.clock = clock;
    this.#maxKeys = maxKeys;
  }

  open(rule: LimitRule): KeyTable {
    if (this.#closed) throw storeIsClosed();
    const known = this.#tableOfRule.get(rule);
    return known !== undefined && !known.isRetired ? known : this.#openTable(rule);
  }

  consume(rule: LimitRule, key: string, cost: number): Verdict {
    return this.open(rule).consume(key, cost, this.clock.nowUs());
  }

  consumeUpTo(rule: LimitRule, key: string, most: number): Verdict {
    return this.open(rule).consumeUpTo(key, most, this.clock.nowUs());
  }

  consumeAll(draws: readonly Draw[]): readonly Verdict[] {
    const nowUs = this.clock.nowUs();
    const tables = draws.map(({ rule }) => this.open(rule));
    const seen = draws.map(({ key, cost }, i) => tables[i]!.peek(key, cost, nowUs));
    if (!seen.every(({ allowed }) => allowed)) return seen;
    // Room for all of them first, so that none is refused when others have been debited.
    const newKeys = draws.filter(({ key }, i) => !tables[i]!.has(key)).length;
    if (newKeys > 0) this.makeRoom(newKeys, nowUs);
    return draws.map(({ key, cost }, i) => tables[i]!.consume(key, cost, nowUs));
  }

  peek(rule: LimitRule, key: string, cost: number): Verdict {
    return this.open(rule).peek(key, cost, this.clock.nowUs());
  }

  settle(rule: LimitRule, key: string, charge: Charge, actual: number): void {
    this.open(rule).settle(key, charge, actual);
  }

  block(rule: LimitRule, key: string, forUs: number): void {
    this.open(rule).block(key, forUs);
  }

  renew(rule: LimitRule, key: string, fence: number): number | undefined {
    return this.open(rule).renew(key, fence);
  }

  release(rule: LimitRule, key: string, fence: number): boolean {
    return this.open(rule).release(key, fence);
  }

  reset(rule: LimitRule, key: string): void {
    this.open(rule).reset(key);
  }

  close(): void {
    this.#closed = true;
    for (const table of this.#tables.values()) table.retire();
    this.#tables.clear();
    this.#round = [];
  }

  makeRoom(newKeys: number, nowUs: number): void {
    const most = this.#maxKeys - newKeys;
    const looks = this.keyCount <= most ? examined.usually : examined.whenFull;
    for (let looked = 0; looked < looks && this.keyCount > 0; looked++) {
      const table = this.#round[this.#at]!;
      if (table.sweepOne(nowUs)) this.#at = (this.#at + 1) % this.#round.length;
    }
    if (this.keyCount <= most) return;
    throw new SluiceError(
      "too_many_keys",
      `the memory store holds ${this.#maxKeys} keys in use (option maxKeys)`,
      { details: { maxKeys: this.#maxKeys } },
    );
  }

  /** The table of a rule that was not seen before: the latest rule of a name is the one that holds for all of that name. */
  #openTable(rule: LimitRule): KeyTable {
    let table = this.#tables.get(rule.name);
    if (table === undefined) table = this.#add(rule);
    else if (JSON.stringify(table.policy) !== JSON.stringify(rule.policy)) table = this.#replace(table, rule);
    this.#tableOfRule.set(rule, table);
    return table;
  }

  #add(rule: LimitRule): KeyTable {
    const table = tableFor(rule, this);
    this.#tables.set(rule.name, table);
    this.#round = [...this.#tables.values()];
    this.#at = 0;
    return table;
  }

  #replace(table: KeyTable, rule: LimitRule): KeyTable {
    const [from, to] = [table.policy, rule.policy];
    const convert = (state: BudgetState): BudgetState | undefined => this.#convert(state, from, to);
    if (from.algorithm === to.algorithm) {
      table.replace(rule, convert);
      return table;
    }
    const next = this.#add(rule);
    table.handOver(next, convert);
    return next;
  }

  #convert(state: BudgetState, from: Policy, to: Policy): BudgetState | undefined {
    if (from.algorithm === "concurrency" || to.algorithm === "concurrency") {
      return from.algorithm === to.algorithm ? state : undefined;
    }
    return rateConvert(state as RateState, this.clock.nowUs(), from, to);
  }
}

function tableFor(rule: LimitRule, home: TableHome): KeyTable {
  switch (rule.policy.algorithm) {
    case "token-bucket":
      return new BucketTable(rule, home);
    case "sliding-window":
      return new SlidingWindowTable(rule, home);
    case "fixed-window":
      return new FixedWindowTable(rule, home);
    case "concurrency":
      return new LeaseTable(rule, home);
  }
}
