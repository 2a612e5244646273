import type { Clock } from "../base/clock.ts";
import { blockAt } from "../limit/algorithms/block.ts";
import {
  type KeyOutcome,
  type KeyState,
  keyBlock,
  keyConsume,
  keyConsumeUpTo,
  keyIsIdle,
  keyPeek,
  keyRelease,
  keyRenew,
  keySettle,
  keysConsumeAll,
  unusedKey,
} from "../limit/algorithms/key-state.ts";
import type { Charge, Verdict } from "../limit/algorithms/verdict.ts";
import type { Draw, LimitRule, LimitStore } from "../limit/store.ts";

interface HeldKey {
  readonly rule: LimitRule;
  readonly key: string;
  readonly state: KeyState;
}

/**
 * A store that is nothing but the pure functions over a table of states: what other stores are compared with. It forgets
 * nothing, is not bounded and takes no other rule for a name it knows.
 */
export class ModelStore implements LimitStore {
  readonly #clock: Clock;
  readonly #keys = new Map<string, HeldKey>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  consume(rule: LimitRule, key: string, cost: number): Verdict {
    return this.#keep(rule, key, keyConsume(this.#get(rule, key), this.#clock.nowUs(), cost, rule.policy));
  }

  consumeUpTo(rule: LimitRule, key: string, most: number): Verdict {
    return this.#keep(
      rule,
      key,
      keyConsumeUpTo(this.#get(rule, key), this.#clock.nowUs(), most, rule.policy),
    );
  }

  consumeAll(draws: readonly Draw[]): readonly Verdict[] {
    const keyed = draws.map(({ rule, key, cost }) => ({
      key: this.#get(rule, key),
      cost,
      policy: rule.policy,
    }));
    const outcomes = keysConsumeAll(keyed, this.#clock.nowUs());
    return outcomes.map((outcome, i) => this.#keep(draws[i]!.rule, draws[i]!.key, outcome));
  }

  peek(rule: LimitRule, key: string, cost: number): Verdict {
    return keyPeek(this.#get(rule, key), this.#clock.nowUs(), cost, rule.policy);
  }

  settle(rule: LimitRule, key: string, charge: Charge, actual: number): void {
    const settlement = { charge, actual };
    this.#set(rule, key, keySettle(this.#get(rule, key), this.#clock.nowUs(), settlement, rule.policy));
  }

  block(rule: LimitRule, key: string, forUs: number): void {
    this.#set(rule, key, keyBlock(this.#get(rule, key), this.#clock.nowUs(), forUs));
  }

  renew(rule: LimitRule, key: string, fence: number): number | undefined {
    const outcome = keyRenew(this.#get(rule, key), this.#clock.nowUs(), fence, rule.policy);
    this.#set(rule, key, outcome.state);
    return outcome.expiresAtUs;
  }

  release(rule: LimitRule, key: string, fence: number): boolean {
    const outcome = keyRelease(this.#get(rule, key), this.#clock.nowUs(), fence, rule.policy);
    this.#set(rule, key, outcome.state);
    return outcome.released;
  }

  reset(rule: LimitRule, key: string): void {
    this.#keys.delete(idOf(rule, key));
  }

  close(): void {
    this.#keys.clear();
  }

  /** The keys that are as if they had never been used, but perhaps blocked. */
  idleKeys(): readonly (readonly [LimitRule, string])[] {
    const nowUs = this.#clock.nowUs();
    return [...this.#keys.values()]
      .filter(({ rule, state: { budget } }) => keyIsIdle({ budget, block: undefined }, nowUs, rule.policy))
      .map(({ rule, key }) => [rule, key] as const);
  }

  /** The keys whose block is over and was not taken notice of. */
  unblockedKeys(): readonly (readonly [LimitRule, string])[] {
    const nowUs = this.#clock.nowUs();
    return [...this.#keys.values()]
      .filter(({ state: { block } }) => block !== undefined && blockAt(block, nowUs) === undefined)
      .map(({ rule, key }) => [rule, key] as const);
  }

  #get(rule: LimitRule, key: string): KeyState {
    return this.#keys.get(idOf(rule, key))?.state ?? unusedKey;
  }

  #set(rule: LimitRule, key: string, state: KeyState): void {
    this.#keys.set(idOf(rule, key), { rule, key, state });
  }

  #keep(rule: LimitRule, key: string, { state, verdict }: KeyOutcome): Verdict {
    this.#set(rule, key, state);
    return verdict;
  }
}

function idOf(rule: LimitRule, key: string): string {
  return JSON.stringify([rule.name, key]);
}
