import { assert } from "../../base/assert.ts";
import { type ConcurrencyState, concurrencyIsIdle } from "../../limit/algorithms/concurrency.ts";
import { type Decision, decisionOf } from "../../limit/decision.ts";
import { KeyTable } from "./key-table.ts";

/** Concurrency: for each key the leases that are held. There are few such keys, and each call means work worth a slot. */
export class LeaseTable extends KeyTable {
  readonly #states: ConcurrencyState[] = [];
  /** The highest fence of all keys, those that were dropped too: no key may give one again. */
  #lastFence = 0;

  override decide(key: string, cost: number): Decision {
    this.slotOf(key);
    const verdict = this.consume(key, cost, this.home.clock.nowUs());
    return decisionOf(verdict, { limit: this.rule.name, key, cost });
  }

  protected take(): boolean {
    assert(false, "slots are taken by the pure function");
  }

  protected enter(): void {}

  protected load(slot: number): ConcurrencyState {
    return this.#states[slot]!;
  }

  protected save(slot: number, state: ConcurrencyState): void {
    this.#states[slot] = state;
    this.#lastFence = Math.max(this.#lastFence, state.lastFence);
  }

  protected override fresh(): ConcurrencyState {
    return { lastFence: this.#lastFence, leases: [] };
  }

  protected prepare(): void {}

  protected move(from: number, to: number): void {
    this.#states[to] = this.#states[from]!;
  }

  protected isIdle(slot: number, nowUs: number): boolean {
    return concurrencyIsIdle(this.#states[slot]!, nowUs);
  }

  protected override clear(slot: number): void {
    this.#states.length = slot;
  }
}
