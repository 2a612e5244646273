/**
 * The keys of one limit in memory: a Map from the key to a slot, and the states of all slots side by side, in typed arrays
 * where they are numbers. Slots are dense: when a key is dropped the last one moves into its place, so that the sweep for idle
 * keys goes over an array and nothing is left behind to collect.
 *
 * What is asked all the time, to take a cost now, has a way of its own in each kind of table. Everything else loads the state of
 * a slot, runs the pure function, and saves what comes out.
 */
import type { Clock } from "../../base/clock.ts";
import { SluiceError } from "../../base/errors.ts";
import { requireKey } from "../../base/key.ts";
import { type Block, blockAt } from "../../limit/algorithms/block.ts";
import type { ConcurrencyState } from "../../limit/algorithms/concurrency.ts";
import {
  type KeyState,
  keyBlock,
  keyConsume,
  keyConsumeUpTo,
  keyIsIdle,
  keyPeek,
  keyRelease,
  keyRenew,
  keySettle,
} from "../../limit/algorithms/key-state.ts";
import type { Policy, RateState } from "../../limit/algorithms/policy.ts";
import type { Charge, Verdict } from "../../limit/algorithms/verdict.ts";
import { type Decision, decisionOf, noneViolated } from "../../limit/decision.ts";
import type { LimitRule, NearTable } from "../../limit/store.ts";
import { SlotMap } from "./slot-map.ts";

/** What a key has consumed or holds. */
export type BudgetState = RateState | ConcurrencyState;

/** What tables share: the clock, and the bound on the keys of them all. */
export interface TableHome {
  readonly clock: Clock;
  /** How many keys all tables hold. */
  keyCount: number;
  /** Drops idle keys until there is room for so many new ones. @throws `too_many_keys`. */
  makeRoom(newKeys: number, nowUs: number): void;
}

/** The slot of a key that has none. */
const none = -1;

export abstract class KeyTable implements NearTable {
  isRetired = false;
  protected rule: LimitRule;
  protected readonly home: TableHome;
  /** The answer of the last `take`: fields, because an object for each would cost more than the decision. */
  protected never = false;
  protected remaining = 0;
  protected retryAfterUs = 0;
  protected resetAtUs = 0;
  protected atUs = 0;
  readonly #slots = new SlotMap();
  readonly #keys: string[] = [];
  readonly #blocks = new Map<string, Block>();
  /** The `violated` of its denials. */
  protected readonly violated: readonly string[];
  /** Where the sweep for idle keys goes on. */
  #hand = 0;

  constructor(rule: LimitRule, home: TableHome) {
    this.rule = rule;
    this.home = home;
    this.violated = Object.freeze([rule.name]);
  }

  get policy(): Policy {
    return this.rule.policy;
  }

  /** How many keys it holds, those that are only blocked too. */
  get size(): number {
    return this.#keys.length + this.#blocks.size;
  }

  /**
   * Whether `cost` is admitted now; the answer is left in the fields. Changes no state but one that has to be set right after
   * the clock was set back.
   * @param slot -1 for a key that has none.
   */
  protected abstract take(slot: number, cost: number, nowUs: number): boolean;
  /** Enters what `take` has just admitted. */
  protected abstract enter(slot: number, cost: number, nowUs: number): void;
  protected abstract load(slot: number): BudgetState;
  protected abstract save(slot: number, state: BudgetState): void;
  /** Makes a slot ready for a key that is new to it, and room for it. */
  protected abstract prepare(slot: number): void;
  protected abstract move(from: number, to: number): void;
  protected abstract isIdle(slot: number, nowUs: number): boolean;

  decide(key: string, cost: number): Decision {
    const nowUs = this.home.clock.nowUs();
    const slot = this.slotOf(key);
    if (this.#blocks.size > 0) {
      return decisionOf(this.consume(key, cost, nowUs), { limit: this.rule.name, key, cost });
    }
    const allowed = this.take(slot, cost, nowUs);
    if (allowed) this.enter(slot === none ? this.add(key, nowUs) : slot, cost, nowUs);
    return {
      allowed,
      never: this.never,
      remaining: this.remaining,
      retryAfterMs: this.retryAfterUs / 1000,
      resetAt: this.resetAtUs / 1000,
      limit: this.rule.name,
      key,
      cost,
      violated: allowed ? noneViolated : this.violated,
      mode: "normal",
    };
  }

  consume(key: string, cost: number, nowUs: number): Verdict {
    if (this.#blocks.has(key) || this.policy.algorithm === "concurrency") {
      const outcome = keyConsume(this.#state(key), nowUs, cost, this.policy);
      this.#keep(key, outcome.state, nowUs);
      return outcome.verdict;
    }
    const slot = this.#slots.get(key) ?? none;
    const allowed = this.take(slot, cost, nowUs);
    if (allowed) this.enter(slot === none ? this.add(key, nowUs) : slot, cost, nowUs);
    return {
      allowed,
      never: this.never,
      remaining: this.remaining,
      retryAfterUs: this.retryAfterUs,
      resetAtUs: this.resetAtUs,
      granted: allowed ? cost : 0,
      atUs: allowed ? this.atUs : nowUs,
      fence: 0,
    };
  }

  consumeUpTo(key: string, most: number, nowUs: number): Verdict {
    const { state, verdict } = keyConsumeUpTo(this.#state(key), nowUs, most, this.policy);
    this.#keep(key, state, nowUs);
    return verdict;
  }

  peek(key: string, cost: number, nowUs: number): Verdict {
    return keyPeek(this.#state(key), nowUs, cost, this.policy);
  }

  settle(key: string, charge: Charge, actual: number): void {
    const nowUs = this.home.clock.nowUs();
    this.#keep(key, keySettle(this.#state(key), nowUs, { charge, actual }, this.policy), nowUs);
  }

  block(key: string, forUs: number): void {
    const nowUs = this.home.clock.nowUs();
    this.#keep(key, keyBlock(this.#state(key), nowUs, forUs), nowUs);
  }

  renew(key: string, fence: number): number | undefined {
    const nowUs = this.home.clock.nowUs();
    const { state, expiresAtUs } = keyRenew(this.#state(key), nowUs, fence, this.policy);
    this.#keep(key, state, nowUs);
    return expiresAtUs;
  }

  release(key: string, fence: number): boolean {
    const nowUs = this.home.clock.nowUs();
    const { state, released } = keyRelease(this.#state(key), nowUs, fence, this.policy);
    this.#keep(key, state, nowUs);
    return released;
  }

  reset(key: string): void {
    this.#unblock(key);
    const slot = this.#slots.get(key);
    if (slot !== undefined) this.#drop(slot);
  }

  /** The slot of a key that a caller gave; -1 when it has none. @throws `invalid_key`, for one that was not seen before. */
  protected slotOf(key: string): number {
    const slot = this.#slots.get(key);
    if (slot !== undefined) return slot;
    if (key !== "") requireKey(key);
    return none;
  }

  /** Whether any key is blocked, so that it must be looked for in each decision. */
  protected get hasBlocks(): boolean {
    return this.#blocks.size > 0;
  }

  /** Whether a key has a state, so that taking from it needs no room. */
  has(key: string): boolean {
    return this.#slots.has(key);
  }

  /** Puts another policy of the same algorithm in the place of this one. */
  replace(rule: LimitRule, convert: (state: BudgetState) => BudgetState | undefined): void {
    const nowUs = this.home.clock.nowUs();
    for (let slot = this.#keys.length - 1; slot >= 0; slot--) {
      const state = convert(this.load(slot));
      if (state === undefined) this.#drop(slot);
      else this.save(slot, state);
    }
    this.rule = rule;
    this.onPolicy();
    for (let slot = this.#keys.length - 1; slot >= 0; slot--) {
      if (this.isIdle(slot, nowUs)) this.#drop(slot);
    }
  }

  /** Gives all its keys to the table that takes its place. */
  handOver(next: KeyTable, convert: (state: BudgetState) => BudgetState | undefined): void {
    const nowUs = this.home.clock.nowUs();
    const states = this.#keys.map((key, slot) => [key, convert(this.load(slot))] as const);
    const blocks = [...this.#blocks];
    this.retire();
    for (const [key, budget] of states) next.#keep(key, { budget, block: undefined }, nowUs);
    for (const [key, block] of blocks) next.#keep(key, { ...next.#state(key), block }, nowUs);
  }

  /** Forgets everything and takes no more calls. */
  retire(): void {
    this.isRetired = true;
    this.home.keyCount -= this.size;
    this.#slots.clear();
    this.#keys.length = 0;
    this.#blocks.clear();
  }

  /**
   * Looks at the next key of the sweep and drops it if it is idle.
   * @returns Whether the sweep has come round.
   */
  sweepOne(nowUs: number): boolean {
    this.#sweepBlock(nowUs);
    if (this.#hand >= this.#keys.length) {
      this.#hand = 0;
      return true;
    }
    // What moves into the place of a dropped key is looked at next.
    if (this.isIdle(this.#hand, nowUs)) this.#drop(this.#hand);
    else this.#hand++;
    return this.#hand >= this.#keys.length;
  }

  /** Called when the policy is another one. */
  protected onPolicy(): void {}

  #sweepBlock(nowUs: number): void {
    const first = this.#blocks.entries().next().value;
    if (first === undefined) return;
    const [key, block] = first;
    this.#unblock(key);
    // At the end of the Map it is looked at last.
    if (blockAt(block, nowUs) !== undefined) this.#setBlock(key, block);
  }

  #state(key: string): KeyState {
    const slot = this.#slots.get(key);
    return { budget: slot === undefined ? this.fresh() : this.load(slot), block: this.#blocks.get(key) };
  }

  #keep(key: string, { budget, block }: KeyState, nowUs: number): void {
    if (block === undefined) this.#unblock(key);
    else {
      if (!this.#blocks.has(key)) this.home.makeRoom(1, nowUs);
      this.#setBlock(key, block);
    }
    const slot = this.#slots.get(key);
    const isIdle = keyIsIdle({ budget, block: undefined }, nowUs, this.policy);
    if (budget !== undefined && !isIdle) this.save(slot ?? this.add(key, nowUs), budget);
    else if (slot !== undefined) this.#drop(slot);
  }

  #setBlock(key: string, block: Block): void {
    if (!this.#blocks.has(key)) this.home.keyCount++;
    this.#blocks.set(key, block);
  }

  #unblock(key: string): void {
    if (this.#blocks.delete(key)) this.home.keyCount--;
  }

  protected add(key: string, nowUs: number): number {
    this.home.makeRoom(1, nowUs);
    const slot = this.#keys.length;
    this.#keys.push(key);
    this.#slots.set(key, slot);
    this.home.keyCount++;
    this.prepare(slot);
    return slot;
  }

  #drop(slot: number): void {
    this.#slots.delete(this.#keys[slot]!);
    const last = this.#keys.pop()!;
    const from = this.#keys.length;
    if (from !== slot) {
      this.move(from, slot);
      this.#keys[slot] = last;
      this.#slots.set(last, slot);
    }
    this.clear(from);
    this.home.keyCount--;
  }

  /** The state of a key that has none. */
  protected fresh(): BudgetState | undefined {
    return undefined;
  }

  /** Lets go of what a slot that is no longer used refers to. */
  protected clear(_slot: number): void {}
}

/** @throws `closed`. */
export function storeIsClosed(): SluiceError {
  return new SluiceError("closed", "the memory store is closed");
}

/** A numeric column with room for so many slots: half as many again when it has to grow. */
export function grown<Column extends Float64Array | Uint32Array>(column: Column, slot: number): Column {
  if (slot < column.length) return column;
  const Kind = column.constructor as new (length: number) => Column;
  const wider = new Kind(Math.max(16, Math.ceil((slot + 1) * 1.5)));
  wider.set(column);
  return wider;
}
