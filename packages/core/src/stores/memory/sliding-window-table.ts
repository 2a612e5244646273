import {
  type SlidingWindowEntry,
  type SlidingWindowPolicy,
  type SlidingWindowState,
  slidingWindowConsume,
} from "../../limit/algorithms/sliding-window.ts";
import type { LimitRule } from "../../limit/store.ts";
import { grown, KeyTable, type TableHome } from "./key-table.ts";

/**
 * The entries of a key before its last one, oldest first. Sums instead of costs, so that a window is found and added up by
 * bisection: a key under attack is denied in O(log n).
 */
interface Log {
  /** Two numbers an entry: its instant, and the cost of all entries up to and including it. */
  readonly numbers: number[];
  /** The first entry that may still count. */
  first: number;
}

/**
 * Sliding windows: for each key its last entry in columns, and a log of those before it only when there are any, as most keys
 * have none.
 */
export class SlidingWindowTable extends KeyTable {
  #times = new Float64Array(16);
  #costs = new Uint32Array(16);
  readonly #logs: (Log | undefined)[] = [];
  #window: SlidingWindowPolicy;
  /** What `take` found: the present, held at the last entry; and the first entry of the log in the window. */
  #heldUs = 0;
  #first = 0;

  constructor(rule: LimitRule, home: TableHome) {
    super(rule, home);
    this.#window = rule.policy as SlidingWindowPolicy;
  }

  protected override onPolicy(): void {
    this.#window = this.policy as SlidingWindowPolicy;
  }

  // The same as slidingWindowConsume, without copies of the log.
  protected take(slot: number, cost: number, nowUs: number): boolean {
    const { capacity, rate, cellUs } = this.#window;
    const { periodUs } = rate;
    let lastUs = slot < 0 ? -Infinity : this.#times[slot]!;
    if (lastUs - cellUs + 1 - nowUs > periodUs) {
      this.#setBack(slot, nowUs);
      lastUs = this.#times[slot]!;
    }
    const heldUs = Math.max(nowUs, lastUs - cellUs + 1);
    const edgeUs = heldUs - periodUs;
    const used = lastUs > edgeUs ? this.#costs[slot]! + this.#olderCost(slot, edgeUs) : 0;
    if (used + cost <= capacity) {
      this.#heldUs = heldUs;
      this.never = false;
      this.retryAfterUs = 0;
      this.remaining = capacity - used - cost;
      this.atUs = cellUs === 1 ? heldUs : Math.max(lastUs, heldUs - (heldUs % cellUs) + cellUs - 1);
      this.resetAtUs = this.atUs + periodUs;
      return true;
    }
    this.never = cost > capacity;
    this.remaining = Math.max(0, capacity - used);
    this.resetAtUs = used === 0 ? nowUs : lastUs + periodUs;
    this.retryAfterUs = this.never
      ? Infinity
      : this.#leavingAt(slot, used + cost - capacity) + periodUs - nowUs;
    return false;
  }

  protected enter(slot: number, cost: number): void {
    const { periodUs } = this.#window.rate;
    const lastUs = this.#times[slot]!;
    if (lastUs > this.#heldUs - periodUs) {
      if (lastUs === this.atUs) {
        this.#costs[slot]! += cost;
        return;
      }
      this.#append(slot, lastUs, this.#costs[slot]!);
    } else this.#logs[slot] = undefined;
    this.#times[slot] = this.atUs;
    this.#costs[slot] = cost;
  }

  protected load(slot: number): SlidingWindowState {
    const entries: SlidingWindowEntry[] = [];
    const log = this.#logs[slot];
    if (log !== undefined) {
      for (let i = log.first; i < log.numbers.length / 2; i++) {
        entries.push({ atUs: log.numbers[2 * i]!, cost: sumUpTo(log, i + 1) - sumUpTo(log, i) });
      }
    }
    entries.push({ atUs: this.#times[slot]!, cost: this.#costs[slot]! });
    return { entries };
  }

  protected save(slot: number, { entries }: SlidingWindowState): void {
    const last = entries.at(-1);
    let sum = 0;
    const numbers = entries.slice(0, -1).flatMap(({ atUs, cost }) => {
      sum += cost;
      return [atUs, sum];
    });
    this.#logs[slot] = numbers.length === 0 ? undefined : { numbers, first: 0 };
    this.#times[slot] = last?.atUs ?? -Infinity;
    this.#costs[slot] = last?.cost ?? 0;
  }

  protected prepare(slot: number): void {
    this.#times = grown(this.#times, slot);
    this.#costs = grown(this.#costs, slot);
    this.#times[slot] = -Infinity;
    this.#logs[slot] = undefined;
  }

  protected move(from: number, to: number): void {
    this.#times[to] = this.#times[from]!;
    this.#costs[to] = this.#costs[from]!;
    this.#logs[to] = this.#logs[from];
  }

  protected isIdle(slot: number, nowUs: number): boolean {
    return this.#times[slot]! + this.#window.rate.periodUs <= nowUs;
  }

  protected override clear(slot: number): void {
    this.#logs.length = slot;
  }

  /** The cost of the log's entries after `edgeUs`; leaves where they begin in `#first`. */
  #olderCost(slot: number, edgeUs: number): number {
    const log = this.#logs[slot];
    if (log === undefined) return 0;
    const { numbers, first } = log;
    const end = numbers.length / 2;
    // Mostly the first is still in the window, or just left it.
    this.#first = numbers[2 * first]! > edgeUs ? first : after(numbers, first + 1, edgeUs);
    return sumUpTo(log, end) - sumUpTo(log, this.#first);
  }

  /** When the entry leaves with which `surplus` has left, counted from the first in the window, as its instant. */
  #leavingAt(slot: number, surplus: number): number {
    const log = this.#logs[slot];
    if (log === undefined) return this.#times[slot]!;
    const { numbers } = log;
    const enough = sumUpTo(log, this.#first) + surplus;
    let [low, high] = [this.#first, numbers.length / 2];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (numbers[2 * middle + 1]! >= enough) high = middle;
      else low = middle + 1;
    }
    return low < numbers.length / 2 ? numbers[2 * low]! : this.#times[slot]!;
  }

  /** Moves what was the last entry to the log, and lets go of what has left the window. */
  #append(slot: number, atUs: number, cost: number): void {
    const log = this.#logs[slot];
    if (log === undefined) {
      this.#logs[slot] = { numbers: [atUs, cost], first: 0 };
      return;
    }
    const { numbers } = log;
    const end = numbers.length / 2;
    log.first = after(numbers, log.first, this.#heldUs - this.#window.rate.periodUs);
    const sum = sumUpTo(log, end) + cost;
    // More than half of it has left the window: copying the rest costs no more than appending it did.
    if (log.first >= 16 && log.first > end - log.first) {
      const offset = sumUpTo(log, log.first);
      const live = numbers.slice(2 * log.first);
      for (let i = 1; i < live.length; i += 2) live[i]! -= offset;
      live.push(atUs, sum - offset);
      this.#logs[slot] = { numbers: live, first: 0 };
    } else numbers.push(atUs, sum);
  }

  #setBack(slot: number, nowUs: number): void {
    // A denial of the pure function, which alone would never come to pass: it sets the log right and takes nothing.
    const { state } = slidingWindowConsume(this.load(slot), nowUs, Infinity, this.#window);
    this.save(slot, state!);
  }
}

/** The cost of all entries before `entry`. */
function sumUpTo({ numbers }: Log, entry: number): number {
  return entry === 0 ? 0 : numbers[2 * entry - 1]!;
}

/** The first entry from `from` on that is after `edgeUs`. */
function after(numbers: readonly number[], from: number, edgeUs: number): number {
  let [low, high] = [from, numbers.length / 2];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[2 * middle]! > edgeUs) high = middle;
    else low = middle + 1;
  }
  return low;
}
