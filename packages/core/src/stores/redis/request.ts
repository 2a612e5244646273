/** What callers ask for, as the script is told it, and how its answer becomes theirs. */
import type { Charge, Verdict } from "../../limit/algorithms/verdict.ts";
import type { Draw } from "../../limit/store.ts";
import { type Answer, readingOf } from "./reading.ts";
import type { Call, RuleText } from "./rule-text.ts";

/** One operation on one key, or on a group of keys in one slot. */
export interface Request {
  /** The keys in Redis, each once. */
  readonly keys: readonly string[];
  /** The parameters of the path for checks alike, of each limit to be debited; undefined when this is not one for it. */
  alikeParameters(): readonly string[] | undefined;
  /** The call for this request alone, if it is a usual one; the script says when it is not. */
  ownCall(): Call | undefined;
  /** Whether another request would have the same. Asked only of one that has. */
  isLike(other: Request): boolean;
  /** The operation's numbers; `indexOf` is where the batch lists a rule, from 1. */
  operation(indexOf: (rule: RuleText) => number): string;
  /** Reads its part of the answer and settles. */
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

/** A draw, with where it is in Redis. */
export interface KeyedDraw {
  readonly key: string;
  readonly rule: RuleText;
  readonly draw: Draw;
}

/** How a promise is settled. */
export interface Settler<Value> {
  readonly resolve: (value: Value) => void;
  readonly reject: (error: unknown) => void;
}

/** `consume`, by one caller or by several that ask for the same at the same time. */
export class ConsumeRequest implements Request {
  readonly keys: readonly string[];
  readonly #rule: RuleText;
  readonly #cost: number;
  readonly #settlers: Settler<Verdict>[];

  constructor(key: string, rule: RuleText, cost: number, settler: Settler<Verdict>) {
    this.keys = [key];
    this.#rule = rule;
    this.#cost = cost;
    this.#settlers = [settler];
  }

  /** Takes one more caller in, if it asks for the same; a lease is everybody's own. */
  merge(rule: RuleText, cost: number, settler: Settler<Verdict>): boolean {
    if (rule !== this.#rule || cost !== this.#cost || rule.rule.policy.algorithm === "concurrency")
      return false;
    this.#settlers.push(settler);
    return true;
  }

  alikeParameters(): readonly string[] | undefined {
    return this.#settlers.length === 1 ? this.#rule.usual(this.#cost)?.alike : undefined;
  }

  ownCall(): Call | undefined {
    return this.#settlers.length === 1 ? this.#rule.usual(this.#cost)?.alone : undefined;
  }

  isLike(other: Request): boolean {
    return (
      other instanceof ConsumeRequest &&
      other.#rule === this.#rule &&
      other.#cost === this.#cost &&
      other.#settlers.length === 1
    );
  }

  operation(indexOf: (rule: RuleText) => number): string {
    return `1,${indexOf(this.#rule)},${this.#cost},${this.#settlers.length}`;
  }

  resolve(answer: Answer): void {
    const reading = readingOf(answer, this.#rule.rule.policy);
    for (const settler of this.#settlers) settler.resolve(reading.consume(this.#cost));
  }

  reject(error: unknown): void {
    for (const settler of this.#settlers) settler.reject(error);
  }
}

/** `consumeAll`, of keys in one slot. */
export class GroupRequest implements Request {
  readonly keys: readonly string[];
  readonly #draws: readonly KeyedDraw[];
  readonly #settler: Settler<readonly Verdict[]>;

  constructor(draws: readonly KeyedDraw[], settler: Settler<readonly Verdict[]>) {
    const { key } = draws[0]!;
    this.keys = draws.every((draw) => draw.key === key) ? [key] : [...new Set(draws.map((draw) => draw.key))];
    this.#draws = draws;
    this.#settler = settler;
  }

  alikeParameters(): readonly string[] | undefined {
    if (this.keys.length > 1) return undefined;
    const parameters: string[] = [];
    for (const { rule, draw } of this.#draws) {
      const own = rule.usual(draw.cost)?.alike;
      if (own === undefined) return undefined;
      parameters.push(...own);
    }
    return parameters;
  }

  ownCall(): undefined {
    return undefined;
  }

  isLike(other: Request): boolean {
    if (!(other instanceof GroupRequest) || other.keys.length > 1) return false;
    const draws = other.#draws;
    return (
      draws.length === this.#draws.length &&
      this.#draws.every(({ rule, draw }, i) => rule === draws[i]!.rule && draw.cost === draws[i]!.draw.cost)
    );
  }

  operation(indexOf: (rule: RuleText) => number): string {
    const draws = this.#draws.map(
      ({ key, rule, draw }) => `${this.keys.indexOf(key) + 1},${indexOf(rule)},${draw.cost}`,
    );
    return `4,${draws.length},${this.keys.length},${draws.join(",")}`;
  }

  resolve(answer: Answer): void {
    // A refusal is read in its turn; debits, and the fences they read, come after all of the group.
    const seen = this.#draws.map(({ draw: { rule, cost } }) => {
      const reading = readingOf(answer, rule.policy);
      return { reading, cost, refusal: reading.admits(cost) ? undefined : reading.peek(cost) };
    });
    const areAll = seen.every(({ refusal }) => refusal === undefined);
    this.#settler.resolve(
      seen.map(({ reading, cost, refusal }) =>
        areAll ? reading.consume(cost) : (refusal ?? reading.peek(cost)),
      ),
    );
  }

  reject(error: unknown): void {
    this.#settler.reject(error);
  }
}

/** Any other operation on one key. */
export class KeyRequest<Value> implements Request {
  readonly keys: readonly string[];
  readonly #rule: RuleText;
  readonly #numbers: Operation;
  readonly #read: (answer: Answer) => Value;
  readonly #settler: Settler<Value>;

  constructor(
    at: { readonly key: string; readonly rule: RuleText },
    numbers: Operation,
    read: (answer: Answer) => Value,
    settler: Settler<Value>,
  ) {
    this.keys = [at.key];
    this.#rule = at.rule;
    this.#numbers = numbers;
    this.#read = read;
    this.#settler = settler;
  }

  alikeParameters(): undefined {
    return undefined;
  }

  ownCall(): undefined {
    return undefined;
  }

  isLike(): boolean {
    return false;
  }

  operation(indexOf: (rule: RuleText) => number): string {
    const [code, ...values] = this.#numbers;
    return [code, indexOf(this.#rule), ...values].join(",");
  }

  resolve(answer: Answer): void {
    this.#settler.resolve(this.#read(answer));
  }

  reject(error: unknown): void {
    this.#settler.reject(error);
  }
}

/** An operation's code, and its numbers but for the rule. */
export type Operation = readonly [code: number, ...values: number[]];

/** The operations on one key. */
export const operations: {
  readonly peek: (cost: number) => Operation;
  readonly consumeUpTo: (most: number) => Operation;
  readonly settle: (charge: Charge, actual: number) => Operation;
  readonly block: (forUs: number) => Operation;
  readonly renew: (fence: number) => Operation;
  readonly release: (fence: number) => Operation;
  readonly reset: () => Operation;
} = {
  peek: (cost) => [2, cost],
  consumeUpTo: (most) => [3, most],
  settle: (charge, actual) => [5, charge.atUs, charge.cost, actual],
  block: (forUs) => [6, forUs],
  renew: (fence) => [7, fence],
  release: (fence) => [8, fence],
  reset: () => [9],
};
