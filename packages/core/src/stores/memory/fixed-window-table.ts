import {
  type FixedWindowPolicy,
  type FixedWindowState,
  fixedWindowConsume,
  fixedWindowIsIdle,
} from "../../limit/algorithms/fixed-window.ts";
import type { LimitRule } from "../../limit/store.ts";
import { grown, KeyTable, type TableHome } from "./key-table.ts";

/** Fixed windows: for each key when its window began and how much of it is used. */
export class FixedWindowTable extends KeyTable {
  #starts = new Float64Array(16);
  #used = new Uint32Array(16);
  #window: FixedWindowPolicy;
  /** The state after what `take` has just admitted. */
  #nextStartUs = 0;
  #nextUsed = 0;

  constructor(rule: LimitRule, home: TableHome) {
    super(rule, home);
    this.#window = rule.policy as FixedWindowPolicy;
  }

  protected override onPolicy(): void {
    this.#window = this.policy as FixedWindowPolicy;
  }

  // The same as fixedWindowConsume, without objects, while the clock has not been set back; that one when it has.
  protected take(slot: number, cost: number, nowUs: number): boolean {
    const { capacity, rate, align } = this.#window;
    let startUs = slot < 0 ? 0 : this.#starts[slot]!;
    let used = slot < 0 ? 0 : this.#used[slot]!;
    if (used > 0 && startUs > nowUs) return this.#takeSetBack(slot, cost, nowUs);
    if (used === 0 || startUs + rate.periodUs <= nowUs) {
      startUs = align === "calendar" ? nowUs - (nowUs % rate.periodUs) : nowUs;
      used = 0;
    }
    const endUs = startUs + rate.periodUs;
    if (used + cost <= capacity) {
      this.#nextStartUs = startUs;
      this.#nextUsed = used + cost;
      this.never = false;
      this.retryAfterUs = 0;
      this.remaining = capacity - used - cost;
      this.resetAtUs = endUs;
      this.atUs = nowUs;
      return true;
    }
    this.never = cost > capacity;
    this.retryAfterUs = this.never ? Infinity : endUs - nowUs;
    this.remaining = Math.max(0, capacity - used);
    this.resetAtUs = used === 0 ? nowUs : endUs;
    return false;
  }

  protected enter(slot: number): void {
    this.#starts[slot] = this.#nextStartUs;
    this.#used[slot] = this.#nextUsed;
  }

  protected load(slot: number): FixedWindowState {
    return { startUs: this.#starts[slot]!, used: this.#used[slot]! };
  }

  protected save(slot: number, { startUs, used }: FixedWindowState): void {
    this.#starts[slot] = startUs;
    this.#used[slot] = used;
  }

  protected prepare(slot: number): void {
    this.#starts = grown(this.#starts, slot);
    this.#used = grown(this.#used, slot);
    this.#used[slot] = 0;
  }

  protected move(from: number, to: number): void {
    this.#starts[to] = this.#starts[from]!;
    this.#used[to] = this.#used[from]!;
  }

  protected isIdle(slot: number, nowUs: number): boolean {
    return fixedWindowIsIdle(this.load(slot), nowUs, this.#window);
  }

  #takeSetBack(slot: number, cost: number, nowUs: number): boolean {
    const before = this.load(slot);
    const { state, verdict } = fixedWindowConsume(before, nowUs, cost, this.#window);
    this.never = verdict.never;
    this.remaining = verdict.remaining;
    this.retryAfterUs = verdict.retryAfterUs;
    this.resetAtUs = verdict.resetAtUs;
    this.atUs = verdict.atUs;
    if (verdict.allowed) {
      this.#nextStartUs = state!.startUs;
      this.#nextUsed = state!.used;
    } else if (state !== before) this.save(slot, state as FixedWindowState);
    return verdict.allowed;
  }
}
