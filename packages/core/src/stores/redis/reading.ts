/**
 * What the script answers for one check, made into verdicts. The script decides and writes, and says how the key stood before;
 * the verdicts are worked out here. For a bucket and a fixed window that is the pure algorithm itself, played on the state that
 * the script found; for the other two, whose states are long, it is a few sums over what the script says of them.
 *
 * `lua/7-operations.lua` says what comes in which order.
 */
import { type Block, blockedVerdict } from "../../limit/algorithms/block.ts";
import type { ConcurrencyPolicy } from "../../limit/algorithms/concurrency.ts";
import {
  type KeyState,
  keyConsume,
  keyConsumeUpTo,
  keyPeek,
  unusedKey,
} from "../../limit/algorithms/key-state.ts";
import type { Policy } from "../../limit/algorithms/policy.ts";
import type { SlidingWindowPolicy } from "../../limit/algorithms/sliding-window.ts";
import type { Outcome, Verdict } from "../../limit/algorithms/verdict.ts";

/** The script's numbers, read from the front. */
export class Answer {
  /** The present by the store's clock, in microseconds. */
  readonly nowUs: number;
  /** How many values under our keys were not ours. */
  readonly foreignValues: number;
  readonly #numbers: readonly number[];
  #at = 2;

  /** @param reply What a client made of a list of integers: numbers, or text if it is set up so. */
  constructor(reply: unknown) {
    const numbers = reply as readonly unknown[];
    this.#numbers = typeof numbers[0] === "number" ? (numbers as readonly number[]) : numbers.map(Number);
    this.nowUs = this.#numbers[0]!;
    this.foreignValues = this.#numbers[1]!;
  }

  next(): number {
    return this.#numbers[this.#at++]!;
  }
}

/** A key as the script found it, from which verdicts come one after the other, in the order of the requests. */
export interface Reading {
  /** Whether `cost` is admitted. */
  admits(cost: number): boolean;
  consume(cost: number): Verdict;
  consumeUpTo(most: number): Verdict;
  peek(cost: number): Verdict;
}

/** Reads the summary of a key. What follows it in the answer is read as verdicts need it. */
export function readingOf(answer: Answer, policy: Policy): Reading {
  switch (policy.algorithm) {
    case "token-bucket": {
      const { isBlocked, number } = flagged(answer.next());
      const tatPart = policy.parts > 1 ? answer.next() : 0;
      const budget = { tatUs: answer.nowUs + number, tatPart };
      return new PureReading({ budget, block: blockIn(answer, isBlocked) }, answer.nowUs, policy);
    }
    case "fixed-window": {
      const { isBlocked, number: used } = flagged(answer.next());
      const budget = used > 0 ? { startUs: answer.nowUs + answer.next(), used } : undefined;
      return new PureReading({ budget, block: blockIn(answer, isBlocked) }, answer.nowUs, policy);
    }
    case "sliding-window":
      return new LogReading(answer, policy);
    case "concurrency":
      return new SlotsReading(answer, policy);
  }
}

/** A number with a flag in its lowest bit; it may be −1 and is beyond what bit operations take. */
function flagged(sum: number): { readonly isBlocked: boolean; readonly number: number } {
  const isBlocked = sum % 2 !== 0;
  return { isBlocked, number: isBlocked ? (sum - 1) / 2 : sum / 2 };
}

function blockIn(answer: Answer, isBlocked: boolean): Block | undefined {
  if (!isBlocked) return undefined;
  const untilUs = answer.nowUs + answer.next();
  return { untilUs, forUs: answer.next() };
}

class PureReading implements Reading {
  #state: KeyState;
  readonly #nowUs: number;
  readonly #policy: Policy;
  /** What `admits` has worked out, for the `consume` that may follow. */
  #foreseen: { readonly cost: number; readonly outcome: Outcome<KeyState> } | undefined;

  constructor(state: KeyState, nowUs: number, policy: Policy) {
    this.#state = state;
    this.#nowUs = nowUs;
    this.#policy = policy;
  }

  admits(cost: number): boolean {
    this.#foreseen = { cost, outcome: keyConsume(this.#state, this.#nowUs, cost, this.#policy) };
    return this.#foreseen.outcome.verdict.allowed;
  }

  consume(cost: number): Verdict {
    const foreseen = this.#foreseen?.cost === cost ? this.#foreseen.outcome : undefined;
    const { state, verdict } = foreseen ?? keyConsume(this.#state, this.#nowUs, cost, this.#policy);
    this.#state = state ?? unusedKey;
    this.#foreseen = undefined;
    return verdict;
  }

  consumeUpTo(most: number): Verdict {
    return keyConsumeUpTo(this.#state, this.#nowUs, most, this.#policy).verdict;
  }

  peek(cost: number): Verdict {
    return keyPeek(this.#state, this.#nowUs, cost, this.#policy);
  }
}

/** What logs and slots have in common: something used, which ends at an instant, and refusals that the script works out. */
abstract class SummedReading implements Reading {
  protected readonly answer: Answer;
  protected readonly capacity: number;
  protected used: number;
  /** The last entry, or the end of the last lease; only when something is used. */
  protected lastUs: number;
  readonly #block: Block | undefined;
  #refusalUs: number | undefined;

  constructor(answer: Answer, capacity: number) {
    const { isBlocked, number } = flagged(answer.next());
    this.answer = answer;
    this.capacity = capacity;
    this.used = number;
    this.lastUs = answer.nowUs + (number > 0 ? answer.next() : 0);
    this.#block = blockIn(answer, isBlocked);
  }

  admits(cost: number): boolean {
    return this.#block === undefined && this.used + cost <= this.capacity;
  }

  consume(cost: number): Verdict {
    if (!this.admits(cost)) return this.peek(cost);
    const taken = this.take(cost);
    this.used += cost;
    return { ...this.#admitted(), granted: cost, ...taken };
  }

  consumeUpTo(most: number): Verdict {
    return this.consume(Math.max(1, Math.min(most, this.capacity - this.used)));
  }

  peek(cost: number): Verdict {
    const verdict = this.used + cost > this.capacity ? this.#denied(cost) : this.#admitted();
    return this.#block === undefined ? verdict : blockedVerdict(verdict, this.answer.nowUs, this.#block);
  }

  /** Moves the last instant to where a debit puts it, and says what the debit is known by. */
  protected abstract take(cost: number): Pick<Verdict, "atUs" | "fence">;

  /** The instant from which the key is as if never used, while something is. */
  protected abstract endUs(): number;

  #admitted(): Verdict {
    return {
      allowed: true,
      never: false,
      remaining: this.capacity - this.used,
      retryAfterUs: 0,
      resetAtUs: this.#resetAtUs(),
      granted: 0,
      atUs: this.answer.nowUs,
      fence: 0,
    };
  }

  #denied(cost: number): Verdict {
    const never = cost > this.capacity;
    return {
      allowed: false,
      never,
      remaining: Math.max(0, this.capacity - this.used),
      retryAfterUs: never ? Infinity : this.#refusal(),
      resetAtUs: this.#resetAtUs(),
      granted: 0,
      atUs: this.answer.nowUs,
      fence: 0,
    };
  }

  /** All refusals of one check are of one cost and alike, so the script says it once. */
  #refusal(): number {
    this.#refusalUs ??= this.answer.next();
    return this.#refusalUs;
  }

  #resetAtUs(): number {
    return this.used === 0 ? this.answer.nowUs : this.endUs();
  }
}

class LogReading extends SummedReading {
  readonly #policy: SlidingWindowPolicy;

  constructor(answer: Answer, policy: SlidingWindowPolicy) {
    super(answer, policy.capacity);
    this.#policy = policy;
  }

  protected take(): Pick<Verdict, "atUs" | "fence"> {
    const { cellUs } = this.#policy;
    const { nowUs } = this.answer;
    const isUsed = this.used > 0;
    const heldUs = isUsed ? Math.max(nowUs, this.lastUs - cellUs + 1) : nowUs;
    const cellEndUs = heldUs - (heldUs % cellUs) + cellUs - 1;
    this.lastUs = isUsed ? Math.max(cellEndUs, this.lastUs) : cellEndUs;
    return { atUs: this.lastUs, fence: 0 };
  }

  protected endUs(): number {
    return this.lastUs + this.#policy.rate.periodUs;
  }
}

class SlotsReading extends SummedReading {
  readonly #policy: ConcurrencyPolicy;

  constructor(answer: Answer, policy: ConcurrencyPolicy) {
    super(answer, policy.capacity);
    this.#policy = policy;
  }

  protected take(): Pick<Verdict, "atUs" | "fence"> {
    const { nowUs } = this.answer;
    const endUs = nowUs + this.#policy.leaseUs;
    this.lastUs = this.used > 0 ? Math.max(this.lastUs, endUs) : endUs;
    return { atUs: nowUs, fence: this.answer.next() };
  }

  protected endUs(): number {
    return this.lastUs;
  }
}
