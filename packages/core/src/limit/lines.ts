import type { Clock } from "../base/clock.ts";
import { SluiceError } from "../base/errors.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import { Line, type LineContext, type LineSource, type WaitOptions } from "./line.ts";
import { isLater } from "./store.ts";

/** What {@link Lines} are built from. */
export interface LinesOptions<Answered extends Verdict> {
  /** The limit, as errors call it. */
  readonly limit: string;
  readonly source: LineSource<Answered>;
  /** Times the waits of this process; decisions follow the store's own clock. */
  readonly clock: Clock;
  /** The most callers waiting at once, over all keys. */
  readonly maxWaiters: number;
}

/** The lines of one limit: one for each key that somebody waits for. */
export class Lines<Answered extends Verdict> {
  readonly #options: LinesOptions<Answered>;
  readonly #context: LineContext<Answered>;
  readonly #lines = new Map<string, Line<Answered>>();
  #waiters = 0;

  constructor(options: LinesOptions<Answered>) {
    const { source, clock } = options;
    this.#options = options;
    this.#context = { source, clock, onLeave: (line) => this.#onLeave(line) };
  }

  /** How many callers wait, over all keys. */
  get waiters(): number {
    return this.#waiters;
  }

  /** Asks, and waits in line if the answer is no. */
  async wait(key: string, cost: number, options: WaitOptions): Promise<Answered> {
    options.signal?.throwIfAborted();
    const line = this.#lines.get(key);
    const isFull = this.#waiters >= this.#options.maxWaiters;
    if (line !== undefined) {
      if (isFull) throw this.#lineIsFull(key);
      this.#waiters++;
      return line.join(cost, options);
    }

    const answer = this.#options.source.ask(key, cost);
    if (!isLater(answer) && answer.allowed) return answer;
    if (!isFull) {
      const first = new Line(key, this.#context);
      this.#waiters++;
      this.#lines.set(key, first);
      return first.join(cost, options, answer);
    }
    // No place in line, but a distant store may be about to admit the request, and then it has been debited.
    const verdict = await answer;
    if (verdict.allowed) return verdict;
    throw this.#lineIsFull(key);
  }

  /** Asks again for the head of a line now, because the budget may have grown. */
  recheck(key: string): void {
    this.#lines.get(key)?.recheck();
  }

  /** Asks again for the head of every line. */
  recheckAll(): void {
    for (const line of [...this.#lines.values()]) line.recheck();
  }

  /** Turns everybody away with `reason`. */
  dissolve(reason: unknown): void {
    for (const line of [...this.#lines.values()]) line.dissolve(reason);
  }

  #onLeave(line: Line<Answered>): void {
    this.#waiters--;
    if (line.isEmpty && this.#lines.get(line.key) === line) this.#lines.delete(line.key);
  }

  #lineIsFull(key: string): SluiceError {
    const { limit, maxWaiters } = this.#options;
    return new SluiceError(
      "too_many_waiters",
      `limit "${limit}": ${this.#waiters} callers wait already, which is the bound (option maxWaiters)`,
      { details: { limit, key, maxWaiters } },
    );
  }
}
