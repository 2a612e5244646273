import type { Clock } from "../base/clock.ts";
import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import { requireKey } from "../base/key.ts";
import type { WaitTerms } from "./acquire-options.ts";
import { blockUsMax } from "./algorithms/block.ts";
import { type Policy, waitBound } from "./algorithms/policy.ts";
import type { Charge, Verdict } from "./algorithms/verdict.ts";
import { type Decision, decisionOf } from "./decision.ts";
import { type LimitEvents, LimitSignals } from "./events.ts";
import { Lines } from "./lines.ts";
import {
  type Answer,
  isNearStore,
  type LimitRule,
  type LimitStore,
  type NearStore,
  type NearTable,
  whenAnswered,
} from "./store.ts";

/** What a gate is built from. */
export interface GateOptions {
  readonly rule: LimitRule;
  readonly store: LimitStore;
  /** Times the waits of this process; decisions follow the store's own clock. */
  readonly clock: Clock;
  /** The most callers waiting at once, over all keys. */
  readonly maxWaiters: number;
}

/**
 * How long those who wait for a slot sleep at the most, in microseconds. It may be given back at any time, in a process that
 * cannot tell this one.
 */
export const slotSleepUsMax: number = 100_000;

/**
 * The part of a limit that all its keys share: the way to the store, and the lines of those who wait.
 *
 * A gate to a store at hand answers at once and throws; one to a store far away answers by promise, always, and rejects.
 */
export class Gate {
  readonly store: LimitStore;
  readonly clock: Clock;
  readonly signals: LimitSignals = new LimitSignals();
  readonly #lines: Lines<Verdict>;
  readonly #near: NearStore | undefined;
  /**
   * The short way of the commonest call of all: there while the limit is open, its store at hand and nobody listens. Opened
   * by the first call that goes the long way.
   */
  table: NearTable | undefined;
  #rule: LimitRule;
  #closed = false;

  constructor({ rule, store, clock, maxWaiters }: GateOptions) {
    this.#rule = rule;
    this.store = store;
    this.clock = clock;
    this.#near = isNearStore(store) ? store : undefined;
    const source = {
      ask: (key: string, cost: number) => this.store.consume(this.#rule, key, cost),
      expect: (key: string, total: number) => this.#expect(key, total),
      sleepUsMax: rule.policy.algorithm === "concurrency" ? slotSleepUsMax : Infinity,
    };
    this.#lines = new Lines({ limit: rule.name, source, clock, maxWaiters });
  }

  get timing(): "now" | "later" {
    return this.#near === undefined ? "later" : "now";
  }

  get rule(): LimitRule {
    return this.#rule;
  }

  get name(): string {
    return this.#rule.name;
  }

  /** How many callers wait, over all keys. */
  get waiters(): number {
    return this.#lines.waiters;
  }

  /** One request, now or denied. */
  decide(key: string, cost: number): Answer<Decision> {
    if (this.#near === undefined) {
      return this.answer(() =>
        whenAnswered(this.consume(key, cost), (verdict) => this.dress(verdict, key, cost)),
      );
    }
    this.requireOpen();
    requireCost(cost);
    const table = this.#near.open(this.#rule);
    if (!this.signals.isHeard) this.table = table;
    return this.signals.decided(table.decide(key, cost));
  }

  /** {@link decide} for a key that has not been checked yet. */
  check(key: string, cost: number): Answer<Decision> {
    return this.answer(() => {
      requireKey(key);
      return this.decide(key, cost);
    });
  }

  /** Calls `listener` with every event of a kind. */
  on<Name extends keyof LimitEvents>(name: Name, listener: (event: LimitEvents[Name]) => void): () => void {
    this.table = undefined;
    return this.signals.on(name, listener);
  }

  consume(key: string, cost: number): Answer<Verdict> {
    this.requireOpen();
    requireCost(cost);
    return this.store.consume(this.#rule, key, cost);
  }

  peek(key: string, cost: number): Answer<Verdict> {
    this.requireOpen();
    requireCost(cost);
    return this.store.peek(this.#rule, key, cost);
  }

  /** Waits until `cost` is admitted, or it is known that the wait would be too long. */
  async wait(key: string, cost: number, terms: WaitTerms): Promise<Verdict> {
    this.requireOpen();
    requireCost(cost);
    requireAdmissible(this.#rule, cost);
    const onWait = this.signals.waiting(this.name, key, cost);
    return this.#lines.wait(key, cost, { ...terms, onWait });
  }

  settle(key: string, charge: Charge, actual: number): Answer<void> {
    this.requireOpen();
    const settled = this.store.settle(this.#rule, key, charge, actual);
    return whenAnswered(settled, () => this.recheck(key));
  }

  block(key: string, forMs: number): Answer<void> {
    this.requireOpen();
    if (typeof forMs !== "number" || !(forMs >= 0)) {
      const got = describeValue(forMs);
      throw new SluiceError("invalid_option", `block: expected milliseconds of at least 0, got ${got}`);
    }
    const forUs = Math.min(blockUsMax, Math.ceil(forMs * 1000));
    return whenAnswered(this.store.block(this.#rule, key, forUs), () => this.recheck(key));
  }

  reset(key: string): Answer<void> {
    this.requireOpen();
    return whenAnswered(this.store.reset(this.#rule, key), () => this.recheck(key));
  }

  /** Serves those who wait for a key, because its budget may have grown. */
  recheck(key: string): void {
    this.#lines.recheck(key);
  }

  /** Puts another policy in the place of this one; what was consumed stays consumed. */
  update(policy: Policy): void {
    this.requireOpen();
    this.#rule = Object.freeze({ name: this.#rule.name, policy });
    this.table = undefined;
    this.#lines.recheckAll();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.table = undefined;
    this.#lines.dissolve(this.#closedError());
  }

  /** Runs a call so that it answers as the store does: at once, or by promise whatever comes. */
  answer<Value>(call: () => Answer<Value>): Answer<Value> {
    return this.#near === undefined ? (async () => call())() : call();
  }

  /** The verdict as a decision, told to those who listen. */
  dress(verdict: Verdict, key: string, cost: number): Decision {
    return this.signals.decided(decisionOf(verdict, { limit: this.name, key, cost }));
  }

  requireOpen(): void {
    if (this.#closed) throw this.#closedError();
  }

  #expect(key: string, total: number): Answer<Verdict> {
    const { probe, extraUs } = waitBound(total, this.#rule.policy);
    return whenAnswered(this.store.peek(this.#rule, key, probe), (verdict) => ({
      ...verdict,
      retryAfterUs: verdict.retryAfterUs + extraUs,
    }));
  }

  #closedError(): SluiceError {
    return new SluiceError("closed", `limit "${this.name}" is closed`);
  }
}

/** Whether a cost can be asked for: a whole number of at least 1. */
export function isCost(cost: number): boolean {
  return Number.isSafeInteger(cost) && cost >= 1;
}

/** @throws `invalid_cost`. */
export function requireCost(cost: number): void {
  if (isCost(cost)) return;
  throw new SluiceError(
    "invalid_cost",
    `cost: expected a whole number of at least 1, got ${describeValue(cost)}`,
  );
}

/** @throws `cost_exceeds_capacity` when the limit never admits the cost, so that a wait for it would have no end. */
export function requireAdmissible({ name, policy: { capacity } }: LimitRule, cost: number): void {
  if (cost <= capacity) return;
  throw new SluiceError(
    "cost_exceeds_capacity",
    `limit "${name}": cost ${cost} is above the capacity of ${capacity} and would wait for ever`,
    { details: { limit: name, cost, capacity } },
  );
}
