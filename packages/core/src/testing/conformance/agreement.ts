/** Random histories, in which a store must answer what the pure functions answer. */
import assert from "node:assert/strict";
import { parseRate } from "../../base/rate.ts";
import { concurrencyPolicy } from "../../limit/algorithms/concurrency.ts";
import { type Policy, type RatePolicyOptions, ratePolicy } from "../../limit/algorithms/policy.ts";
import type { Charge, Verdict } from "../../limit/algorithms/verdict.ts";
import type { Draw, LimitRule, LimitStore } from "../../limit/store.ts";
import { ModelStore } from "../model-store.ts";
import type { VirtualClock } from "../virtual-clock.ts";
import { randomNumbers, type StoreCheck } from "./store-check.ts";

const ratePolicies: readonly [label: string, rate: string, options: RatePolicyOptions][] = [
  ["token bucket 10/s, burst 10", "10/s", { algorithm: "token-bucket" }],
  ["token bucket 3/10s, strict pacing", "3/10s", { algorithm: "token-bucket", burst: 1 }],
  ["token bucket 7/0.7s, burst 3", "7/0.7s", { algorithm: "token-bucket", burst: 3 }],
  ["token bucket 1/3600s, burst 2", "1/3600s", { algorithm: "token-bucket", burst: 2 }],
  ["token bucket 999983/s, burst 1000", "999983/s", { algorithm: "token-bucket", burst: 1000 }],
  ["sliding window 5/250ms", "5/250ms", { algorithm: "sliding-window" }],
  ["sliding window 100/60s", "100/60s", { algorithm: "sliding-window" }],
  ["sliding window 1/3600s", "1/3600s", { algorithm: "sliding-window" }],
  ["sliding window 5000/s, in cells", "5000/s", { algorithm: "sliding-window" }],
  ["sliding window 1001/1.001s, in cells", "1001/1.001s", { algorithm: "sliding-window" }],
  ["fixed window 20/60s on the calendar", "20/60s", { algorithm: "fixed-window" }],
  [
    "fixed window 20/7s from the first request",
    "20/7s",
    { algorithm: "fixed-window", align: "first-request" },
  ],
];

/** The random histories: one policy at a time, and limits of every kind together. */
export function agreements(seed: string): readonly StoreCheck[] {
  const policies: [string, Policy][] = ratePolicies.map(([label, rate, options]) => [
    label,
    ratePolicy(parseRate(rate), options),
  ]);
  policies.push(["concurrency of 3 for 2 s", concurrencyPolicy(3, 2_000_000)]);
  const alone = policies.map(([label, policy]) => agreement(label, [ruleFor("agreement", policy)], seed));
  const together = [0, 5, 8, 10, 12].map((index) => ruleFor(`agreement-${index}`, policies[index]![1]));
  return [...alone, agreement("five limits of every kind together", together, seed)];
}

function ruleFor(name: string, policy: Policy): LimitRule {
  return Object.freeze({ name, policy });
}

function agreement(label: string, rules: readonly LimitRule[], seed: string): StoreCheck {
  return {
    name: `agrees with the pure algorithm to the microsecond: ${label}`,
    async check(store, clock) {
      const history = new History(store, clock, rules, randomNumbers(label + seed));
      for (let step = 0; step < 700; step++) {
        try {
          await history.step();
        } catch (error) {
          throw new Error(`step ${step}: ${history.last}`, { cause: error });
        }
      }
    },
  };
}

/** A lease that both gave, under the fence of each. */
interface HeldLease {
  readonly rule: LimitRule;
  readonly key: string;
  readonly fence: number;
  readonly modelFence: number;
}

/** A random history, played to a store and to the model. */
class History {
  /** What the last step did, for the message when the answers differ. */
  last = "";
  readonly #store: LimitStore;
  readonly #model: ModelStore;
  readonly #clock: VirtualClock;
  readonly #rules: readonly LimitRule[];
  readonly #random: (below: number) => number;
  /** The latest debits, which are settled now and then, also long after. */
  readonly #charges: { readonly rule: LimitRule; readonly key: string; readonly charge: Charge }[] = [];
  readonly #leases: HeldLease[] = [];
  readonly #highestFence = new Map<string, number>();

  constructor(
    store: LimitStore,
    clock: VirtualClock,
    rules: readonly LimitRule[],
    random: (below: number) => number,
  ) {
    this.#store = store;
    this.#model = new ModelStore(clock);
    this.#clock = clock;
    this.#rules = rules;
    this.#random = random;
  }

  async step(): Promise<void> {
    const rule = this.#rules[this.#random(this.#rules.length)]!;
    const key = ["a", "b", "a:b"][this.#random(3)]!;
    await this.#passTime(rule.policy);
    const kind = this.#random(100);
    if (kind < 50) return this.#consume(rule, key);
    if (kind < 62) return this.#peek(rule, key);
    if (kind < 74) return this.#consumeAll();
    if (kind < 77) return this.#block(rule, key);
    if (kind < 79) return this.#reset(rule, key);
    if (rule.policy.algorithm === "concurrency") return this.#renewOrRelease();
    return kind < 88 ? this.#consumeUpTo(rule, key) : this.#settle();
  }

  async #consume(rule: LimitRule, key: string): Promise<void> {
    const cost = this.#cost(rule.policy);
    this.last = `consume ${rule.name} ${key} ${cost}`;
    const expected = this.#model.consume(rule, key, cost);
    this.#compare({ rule, key }, await this.#store.consume(rule, key, cost), expected);
  }

  async #consumeUpTo(rule: LimitRule, key: string): Promise<void> {
    const most = this.#cost(rule.policy) + this.#random(3);
    this.last = `consumeUpTo ${rule.name} ${key} ${most}`;
    const expected = this.#model.consumeUpTo(rule, key, most);
    this.#compare({ rule, key }, await this.#store.consumeUpTo(rule, key, most), expected);
  }

  async #peek(rule: LimitRule, key: string): Promise<void> {
    const cost = this.#cost(rule.policy);
    this.last = `peek ${rule.name} ${key} ${cost}`;
    const expected = this.#model.peek(rule, key, cost);
    this.#compare({ rule, key }, await this.#store.peek(rule, key, cost), expected);
  }

  async #consumeAll(): Promise<void> {
    const draws: Draw[] = [];
    for (let left = 1 + this.#random(3); left > 0; left--) {
      const rule = this.#rules[this.#random(this.#rules.length)]!;
      const key = ["a", "b", "a:b"][this.#random(3)]!;
      if (draws.some((draw) => draw.rule === rule && draw.key === key)) continue;
      draws.push({ rule, key, cost: this.#random(3) === 0 ? this.#cost(rule.policy) : 1 });
    }
    this.last = `consumeAll ${draws.map(({ rule, key, cost }) => `${rule.name} ${key} ${cost}`).join(", ")}`;
    const expected = this.#model.consumeAll(draws);
    const verdicts = await this.#store.consumeAll(draws);
    assert.equal(verdicts.length, draws.length);
    for (const [i, verdict] of verdicts.entries()) this.#compare(draws[i]!, verdict, expected[i]!);
  }

  async #settle(): Promise<void> {
    const debit = this.#charges[this.#random(this.#charges.length)];
    if (debit === undefined) return;
    const { rule, key, charge } = debit;
    const { capacity } = rule.policy;
    const actual = [0, this.#random(charge.cost + 1), this.#random(2 * capacity), 10 ** 15][this.#random(4)]!;
    // Now and then a debit is settled twice: no caller should, and stores must agree nevertheless.
    if (this.#random(8) > 0) this.#charges.splice(this.#charges.indexOf(debit), 1);
    this.last = `settle ${rule.name} ${key} ${charge.cost} at ${charge.atUs} to ${actual}`;
    this.#model.settle(rule, key, charge, actual);
    await this.#store.settle(rule, key, charge, actual);
  }

  async #block(rule: LimitRule, key: string): Promise<void> {
    const forUs = this.#random(3) === 0 ? 0 : 1 + this.#random(spanOf(rule.policy));
    this.last = `block ${rule.name} ${key} ${forUs}`;
    this.#model.block(rule, key, forUs);
    await this.#store.block(rule, key, forUs);
  }

  async #reset(rule: LimitRule, key: string): Promise<void> {
    this.last = `reset ${rule.name} ${key}`;
    this.#model.reset(rule, key);
    await this.#store.reset(rule, key);
    this.#clock.advance(1);
    this.#forgetLeases(rule, key);
  }

  /** Mostly short gaps, sometimes a long one, sometimes a clock that is set back. */
  async #passTime(policy: Policy): Promise<void> {
    const spanUs = spanOf(policy);
    const kind = this.#random(40);
    if (kind === 0) this.#clock.advance(2 * spanUs + this.#random(spanUs));
    else if (kind === 1) await this.#setBack(this.#random(3 * spanUs));
    else if (kind < 20) this.#clock.advance(this.#random(Math.ceil((2 * spanUs) / policy.capacity)));
  }

  /**
   * A store may forget a key that is idle and a block that is over, or not: before a clock set back would tell the two apart,
   * both forget them.
   */
  async #setBack(us: number): Promise<void> {
    for (const [rule, key] of this.#model.idleKeys()) {
      this.#model.reset(rule, key);
      await this.#store.reset(rule, key);
      this.#forgetLeases(rule, key);
    }
    for (const [rule, key] of this.#model.unblockedKeys()) {
      this.#model.block(rule, key, 0);
      await this.#store.block(rule, key, 0);
    }
    this.#clock.step(-us);
  }

  /** Fences rise with the clock: not over a key that was forgotten before the clock was set back. */
  #forgetLeases(rule: LimitRule, key: string): void {
    this.#highestFence.delete(idOf({ rule, key }));
    const others = this.#leases.filter((lease) => lease.rule !== rule || lease.key !== key);
    this.#leases.splice(0, this.#leases.length, ...others);
  }

  async #renewOrRelease(): Promise<void> {
    const lease = this.#leases[this.#random(this.#leases.length)];
    if (lease === undefined) return;
    const { rule, key, fence, modelFence } = lease;
    if (this.#random(2) === 0) {
      this.last = `renew ${rule.name} ${key} ${fence}`;
      const expected = this.#model.renew(rule, key, modelFence);
      assert.equal(await this.#store.renew(rule, key, fence), expected);
    } else {
      this.last = `release ${rule.name} ${key} ${fence}`;
      const expected = this.#model.release(rule, key, modelFence);
      assert.equal(await this.#store.release(rule, key, fence), expected);
    }
  }

  #cost({ capacity }: Policy): number {
    return this.#random(4) === 0 ? 1 + this.#random(capacity + 2) : 1;
  }

  /** Fences are compared by order alone: where they come from is the store's affair. */
  #compare(draw: Pick<Draw, "rule" | "key">, actual: Verdict, expected: Verdict): void {
    const { rule, key } = draw;
    const { mode = "normal", ...seen } = actual;
    assert.equal(mode, "normal");
    assert.deepEqual({ ...seen, fence: 0 }, { ...expected, fence: 0 });
    assert.equal(actual.fence > 0, expected.fence > 0, "a fence is given with a lease, and only then");
    if (actual.fence > 0) {
      const id = idOf(draw);
      assert.ok(actual.fence > (this.#highestFence.get(id) ?? 0), "fences only rise");
      this.#highestFence.set(id, actual.fence);
      this.#leases.push({ rule, key, fence: actual.fence, modelFence: expected.fence });
      if (this.#leases.length > 8) this.#leases.shift();
    } else if (actual.granted > 0) {
      this.#charges.push({ rule, key, charge: { atUs: actual.atUs, cost: actual.granted } });
      if (this.#charges.length > 8) this.#charges.shift();
    }
  }
}

/** The time a policy speaks of: its period, or the term of its leases. */
function spanOf(policy: Policy): number {
  return policy.algorithm === "concurrency" ? policy.leaseUs : policy.rate.periodUs;
}

function idOf({ rule, key }: Pick<Draw, "rule" | "key">): string {
  return `${rule.name} ${key}`;
}
