import type { Verdict } from "../../limit/algorithms/verdict.ts";
import type { LimitRule } from "../../limit/store.ts";

/** What can be asked of a key, as `limit_step` counts it. */
export const op = {
  consume: 1,
  consumeUpTo: 2,
  peek: 3,
  settle: 4,
  block: 5,
  renew: 6,
  release: 7,
  reset: 8,
  /** One of a group that is all or nothing. */
  draw: 10,
} as const;

/** One thing asked of one key. */
export interface Ask {
  readonly rowKey: string;
  readonly rule: LimitRule;
  readonly op: number;
  /** The cost, what was used, how long a block is to hold, or the fence. */
  readonly amount: number;
  /** For a settlement: when the debit was booked, and of how much. */
  readonly bookedUs: number;
  readonly charged: number;
}

/** How many numbers an ask takes, and an answer has. */
const stride = 6;

/** The answers to a statement: the time, then six numbers for each ask. */
export class Answers {
  readonly #numbers: readonly string[];
  readonly #nowUs: number;

  /** @param text A PostgreSQL array of bigint. */
  constructor(text: string) {
    this.#numbers = text.slice(1, -1).split(",");
    this.#nowUs = Number(this.#numbers[0]);
  }

  /** What was granted in answer to an ask: −1 when it was denied. */
  granted(ask: number): number {
    return this.#number(ask, 0);
  }

  /** The verdict on an ask. */
  verdict(ask: number): Verdict {
    const granted = this.granted(ask);
    const retryAfterUs = this.#number(ask, 2);
    return {
      allowed: granted >= 0,
      never: retryAfterUs < 0,
      remaining: this.#number(ask, 1),
      retryAfterUs: retryAfterUs < 0 ? Infinity : retryAfterUs,
      resetAtUs: this.#nowUs + this.#number(ask, 3),
      granted: Math.max(0, granted),
      atUs: this.#nowUs + this.#number(ask, 4),
      fence: this.#number(ask, 5),
    };
  }

  #number(ask: number, field: number): number {
    return Number(this.#numbers[1 + ask * stride + field]);
  }
}

/** A list of asks as the parameters of `limit_ask`. */
export interface AskList {
  readonly rowKeys: string;
  readonly rules: string;
  readonly asks: string;
}

/**
 * Writes asks for `limit_ask`. The keys are sorted, always by the same order (of UTF-16 units): rows are locked in it, so that no
 * two statements wait for each other.
 */
export function askList(asks: readonly Ask[], ruleTexts: ReadonlyMap<LimitRule, string>): AskList {
  const rowKeys = [...new Set(asks.map(({ rowKey }) => rowKey))].sort();
  const rowKeyAt = new Map(rowKeys.map((rowKey, i) => [rowKey, i + 1]));
  const ruleAt = new Map([...ruleTexts.keys()].map((rule, i) => [rule, i + 1]));
  let numbers = "";
  for (const ask of asks) {
    const place = `${rowKeyAt.get(ask.rowKey)},${ruleAt.get(ask.rule)}`;
    numbers += `${numbers === "" ? "" : ","}${place},${ask.op},${ask.amount},${ask.bookedUs},${ask.charged}`;
  }
  return {
    rowKeys: `{${rowKeys.map(quoted).join(",")}}`,
    rules: `{${[...ruleTexts.values()].join(",")}}`,
    asks: `{${numbers}}`,
  };
}

function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, "\\$&")}"`;
}
