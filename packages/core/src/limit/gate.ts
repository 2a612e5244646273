import type { Clock } from "../base/clock.ts";
import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import { type Decision, decisionOf } from "./decision.ts";
import { Line, type LineContext, type WaitOptions } from "./line.ts";
import type { LimitRule, LimitStore } from "./store.ts";

/** What a gate is built from. */
export interface GateOptions {
  readonly rule: LimitRule;
  readonly store: LimitStore;
  /** Times the waits of this process; decisions follow the store's own clock. */
  readonly clock: Clock;
  /** The most callers waiting at once, over all keys. */
  readonly maxWaiters: number;
}

/** The part of a limit that all its keys share: the way to the store, and the lines of those who wait. */
export class Gate {
  readonly rule: LimitRule;
  readonly #store: LimitStore;
  readonly #maxWaiters: number;
  readonly #lineContext: LineContext;
  /** The lines that somebody waits in. */
  readonly #lines = new Map<string, Line>();
  #waiters = 0;
  #closed = false;

  constructor({ rule, store, clock, maxWaiters }: GateOptions) {
    this.rule = rule;
    this.#store = store;
    this.#maxWaiters = maxWaiters;
    this.#lineContext = { rule, store, clock, onLeave: (line) => this.#onLeave(line) };
  }

  /** How many callers wait, over all keys. */
  get waiters(): number {
    return this.#waiters;
  }

  async consume(key: string, cost: number): Promise<Decision> {
    this.#requireOpen();
    requireCost(cost);
    const verdict = this.#store.consume(this.rule, key, cost);
    return this.#decision("then" in verdict ? await verdict : verdict, key, cost);
  }

  async peek(key: string, cost: number): Promise<Decision> {
    this.#requireOpen();
    requireCost(cost);
    const verdict = this.#store.peek(this.rule, key, cost);
    return this.#decision("then" in verdict ? await verdict : verdict, key, cost);
  }

  async wait(key: string, cost: number, options: WaitOptions): Promise<Decision> {
    this.#requireOpen();
    requireCost(cost);
    this.#requireAdmissible(cost);
    options.signal?.throwIfAborted();
    const line = this.#lines.get(key);
    if (line !== undefined) {
      if (this.#waiters >= this.#maxWaiters) throw this.#lineIsFull(key);
      return this.#join(line, cost, options);
    }

    const answer = this.#store.consume(this.rule, key, cost);
    if (!("then" in answer) && answer.allowed) return this.#decision(answer, key, cost);
    if (this.#waiters < this.#maxWaiters)
      return this.#join(new Line(key, this.#lineContext), cost, options, answer);
    // No place in line, but a distant store may be about to admit the request, and then it has been debited.
    const verdict = await answer;
    if (verdict.allowed) return this.#decision(verdict, key, cost);
    throw this.#lineIsFull(key);
  }

  async reset(key: string): Promise<void> {
    this.#requireOpen();
    await this.#store.reset(this.rule, key);
    this.#lines.get(key)?.recheck();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const line of [...this.#lines.values()]) line.dissolve(this.#closedError());
  }

  #join(
    line: Line,
    cost: number,
    options: WaitOptions,
    answer?: Verdict | PromiseLike<Verdict>,
  ): Promise<Decision> {
    this.#waiters++;
    this.#lines.set(line.key, line);
    return line.join(cost, options, answer);
  }

  #onLeave(line: Line): void {
    this.#waiters--;
    if (line.isEmpty && this.#lines.get(line.key) === line) this.#lines.delete(line.key);
  }

  #decision(verdict: Verdict, key: string, cost: number): Decision {
    return decisionOf(verdict, this.rule.name, key, cost);
  }

  #requireAdmissible(cost: number): void {
    const { capacity } = this.rule.policy;
    if (cost <= capacity) return;
    throw new SluiceError(
      "cost_exceeds_capacity",
      `limit "${this.rule.name}": cost ${cost} is above the capacity of ${capacity} and would wait for ever`,
      { details: { limit: this.rule.name, cost, capacity } },
    );
  }

  #requireOpen(): void {
    if (this.#closed) throw this.#closedError();
  }

  #lineIsFull(key: string): SluiceError {
    const limit = this.rule.name;
    return new SluiceError(
      "too_many_waiters",
      `limit "${limit}": ${this.#waiters} callers wait already, which is the bound (option maxWaiters)`,
      { details: { limit, key, maxWaiters: this.#maxWaiters } },
    );
  }

  #closedError(): SluiceError {
    return new SluiceError("closed", `limit "${this.rule.name}" is closed`);
  }
}

function requireCost(cost: number): void {
  if (Number.isSafeInteger(cost) && cost >= 1) return;
  throw new SluiceError(
    "invalid_cost",
    `cost: expected a whole number of at least 1, got ${describeValue(cost)}`,
  );
}
