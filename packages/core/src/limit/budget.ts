import { type Decision, decisionOf } from "./decision.ts";
import type { Gate } from "./gate.ts";
import { type Answer, whenAnswered } from "./store.ts";

/** When a limit answers: `now`, from a store at hand, or `later`, by promise. */
export type Timing = "now" | "later";

/** What a call of a limit returns: the value itself from a store at hand, else a promise of it. `await` takes both. */
export type Reply<When extends Timing, Value> = When extends "now" ? Value : Promise<Value>;

/** What rate and concurrency limits have in common, as one key sees it. */
export class Budget<When extends Timing = Timing> {
  /** Whose budget this is; empty for the limit's own. */
  readonly key: string;
  /** @internal */
  readonly gate: Gate;

  /** @internal */
  constructor(gate: Gate, key: string) {
    this.gate = gate;
    this.key = key;
  }

  /** When it answers: `now` with a store at hand, `later` with one far away. */
  get timing(): When {
    return this.gate.timing as When;
  }

  /** What `tryAcquire` would answer now. Takes nothing: `remaining` and `resetAt` are those of the key as it stands. */
  peek(cost: number = 1): Reply<When, Decision> {
    const { gate, key } = this;
    return this.reply(() =>
      whenAnswered(gate.peek(key, cost), (verdict) => decisionOf(verdict, { limit: gate.name, key, cost })),
    );
  }

  /** The largest cost that would be admitted now. */
  available(): Reply<When, number> {
    return this.reply(() => whenAnswered(this.gate.peek(this.key, 1), ({ remaining }) => remaining));
  }

  /**
   * Makes the whole capacity available, as if the key had never been used, and lifts its block; those who wait are served
   * from it at once.
   */
  reset(): Reply<When, void> {
    return this.reply(() => this.gate.reset(this.key));
  }

  /**
   * Admits nothing on this key for `forMs` from now, whatever its budget: what a provider's 429 asks for. Holds wherever the
   * store is shared. The later of two blocks holds; 0 lifts it.
   * @param forMs At least 0; above 24 hours it counts as 24 hours.
   * @throws `invalid_option`.
   */
  block(forMs: number): Reply<When, void> {
    return this.reply(() => this.gate.block(this.key, forMs));
  }

  /** @internal */
  reply<Value>(call: () => Answer<Value>): Reply<When, Value> {
    return this.gate.answer(call) as Reply<When, Value>;
  }
}
