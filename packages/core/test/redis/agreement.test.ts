/** Random histories on many keys at once, so that batches, merged calls and both paths of the script are in them. */
import { concurrencyPolicy, type Policy, parseRate, type RatePolicyOptions, ratePolicy } from "@sluice/core";
import { redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { afterAll, describe, expect, test } from "vitest";
import { freshRedis } from "../../../../tools/testing/redis.ts";
import type { Charge, Verdict } from "../../src/limit/algorithms/verdict.ts";
import type { Draw, LimitRule, LimitStore } from "../../src/limit/store.ts";
import { randomNumbers } from "../../src/testing/conformance/store-check.ts";
import { ModelStore } from "../../src/testing/model-store.ts";
import { virtualClock } from "../../src/testing/virtual-clock.ts";

const { url, prefix } = freshRedis("agreement");
const client = new Redis(url, { lazyConnect: true });
afterAll(() => client.disconnect());

/** Steps of each algorithm, over all of its policies. */
const stepsPerAlgorithm = Number(process.env["SLUICE_REDIS_STEPS"] ?? 100_000);
const keyCount = 50;

const rates = (options: RatePolicyOptions, ...texts: string[]): Policy[] =>
  texts.map((text) => ratePolicy(parseRate(text), options));

const algorithms: readonly [name: string, policies: readonly Policy[]][] = [
  [
    "token bucket",
    [
      ...rates({ algorithm: "token-bucket" }, "10/s", "7/0.7s", "1000/h", "999983/s", "1/3600s"),
      ...rates({ algorithm: "token-bucket", burst: 1 }, "3/10s", "5/250ms"),
      ...rates({ algorithm: "token-bucket", burst: 1_000_000_000 }, "1000/ms"),
    ],
  ],
  [
    "sliding window",
    rates(
      { algorithm: "sliding-window" },
      "5/250ms",
      "30/60s",
      "1000/10s",
      "5000/s",
      "1001/1.001s",
      "40000/60s",
      "12/30d",
      "1/3600s",
    ),
  ],
  [
    "fixed window",
    [
      ...rates({ algorithm: "fixed-window" }, "20/60s", "3/7s", "1/ms", "1000000000/30d"),
      ...rates({ algorithm: "fixed-window", align: "first-request" }, "20/7s", "5/250ms"),
    ],
  ],
  [
    "concurrency",
    [concurrencyPolicy(3, 2_000_000), concurrencyPolicy(40, 60_000_000), concurrencyPolicy(1, 1_000)],
  ],
];

type Ask = (store: LimitStore) => Promise<unknown>;

/** One history: rounds of requests that are asked together, compared one by one with the model. */
class History {
  readonly clock = virtualClock();
  readonly #model = new ModelStore(this.clock);
  readonly #store: LimitStore;
  readonly #random: (below: number) => number;
  readonly #rules: readonly LimitRule[];
  readonly #charges = new Map<string, Charge>();
  readonly #fences = new Map<string, { readonly model: number; readonly store: number }>();

  constructor(policy: Policy, seed: string) {
    const name = `agreement ${seed}`;
    this.#rules = [Object.freeze({ name, policy }), Object.freeze({ name: `${name} too`, policy })];
    this.#random = randomNumbers(seed);
    this.#store = redis(client, {
      prefix: `${prefix}:${encodeURIComponent(seed).replaceAll(/[^\w]/g, "")}`,
      nowUs: () => this.clock.nowUs(),
    });
  }

  /** Asks a round of about `keyCount` things. @returns How many it were. */
  async round(): Promise<number> {
    this.#passTime();
    const asks: {
      readonly what: string;
      readonly ask: Ask;
      readonly note?: (of: unknown, model: unknown) => void;
    }[] = [];
    const uniform = this.#random(3) === 0;
    for (let i = 0; i < keyCount; i++)
      asks.push(uniform ? this.#consume(`k${i}`, this.#rules[0]!, 1) : this.#step());
    const answers = asks.map(({ ask }) => ask(this.#store));
    const expected = await Promise.all(asks.map(({ ask }) => ask(this.#model)));
    for (const [i, { what, note }] of asks.entries()) {
      const answer = await answers[i];
      expect(withoutFences(answer), `${what} at ${this.clock.nowUs()}`).toEqual(withoutFences(expected[i]));
      note?.(answer, expected[i]);
    }
    return asks.length;
  }

  #passTime(): void {
    const { policy } = this.#rules[0]!;
    const [limit, periodUs] =
      policy.algorithm === "concurrency"
        ? [policy.capacity, policy.leaseUs]
        : [policy.rate.limit, policy.rate.periodUs];
    const kind = this.#random(40);
    if (kind === 0) this.clock.advance(2 * periodUs + this.#random(periodUs));
    else if (kind === 1) this.clock.step(-this.#random(3 * periodUs));
    else if (kind < 30) this.clock.advance(this.#random(Math.ceil((4 * periodUs) / limit) + 1));
  }

  #step() {
    const rule = this.#rules[this.#random(5) === 0 ? 1 : 0]!;
    // Few keys now and then, so that some are asked for several times in one turn.
    const key = `k${this.#random(this.#random(2) === 0 ? 4 : keyCount)}`;
    const kind = this.#random(100);
    if (kind < 60) return this.#consume(key, rule, this.#cost(rule.policy));
    if (kind < 70) return this.#peek(key, rule);
    if (kind < 80) return this.#consumeAll(key);
    if (kind < 82) return this.#block(key, rule);
    // The model forgets the fences of a key it resets; a store may not.
    if (kind < 83 && rule.policy.algorithm !== "concurrency")
      return { what: `reset ${key}`, ask: async (store: LimitStore) => store.reset(rule, key) };
    return rule.policy.algorithm === "concurrency"
      ? this.#release(key, rule)
      : this.#correct(key, rule, kind < 92);
  }

  #cost({ capacity }: Policy): number {
    return this.#random(3) > 0
      ? 1
      : 1 + this.#random(this.#random(2) === 0 ? capacity + 2 : Math.min(capacity, 5));
  }

  #consume(key: string, rule: LimitRule, cost: number) {
    const id = `${rule.name} ${key}`;
    return {
      what: `consume ${id} ${cost}`,
      ask: async (store: LimitStore) => store.consume(rule, key, cost),
      note: (of: unknown, model: unknown): void => this.#remember(id, of as Verdict, model as Verdict),
    };
  }

  #remember(id: string, of: Verdict, model: Verdict): void {
    if (of.granted === 0) return;
    this.#charges.set(id, { atUs: of.atUs, cost: of.granted });
    if (of.fence > 0) this.#fences.set(id, { model: model.fence, store: of.fence });
  }

  #peek(key: string, rule: LimitRule) {
    const cost = this.#cost(rule.policy);
    return { what: `peek ${key} ${cost}`, ask: async (store: LimitStore) => store.peek(rule, key, cost) };
  }

  #consumeAll(key: string) {
    const other = this.#random(2) === 0 ? key : `k${this.#random(keyCount)}`;
    const draws: Draw[] = [
      { rule: this.#rules[0]!, key, cost: this.#cost(this.#rules[0]!.policy) },
      { rule: this.#rules[1]!, key: other, cost: 1 },
    ];
    return { what: `consumeAll ${key} ${other}`, ask: async (store: LimitStore) => store.consumeAll(draws) };
  }

  #block(key: string, rule: LimitRule) {
    const forUs = this.#random(4) === 0 ? 0 : this.#random(3_000_000);
    return { what: `block ${key} ${forUs}`, ask: async (store: LimitStore) => store.block(rule, key, forUs) };
  }

  #correct(key: string, rule: LimitRule, isUpTo: boolean) {
    const charge = this.#charges.get(`${rule.name} ${key}`);
    if (isUpTo || charge === undefined) {
      const most = this.#cost(rule.policy);
      return {
        what: `up to ${most} ${key}`,
        ask: async (store: LimitStore) => store.consumeUpTo(rule, key, most),
      };
    }
    const actual =
      this.#random(2) === 0 ? this.#random(charge.cost + 1) : this.#random(3 * rule.policy.capacity);
    return {
      what: `settle ${key} ${JSON.stringify(charge)} ${actual}`,
      ask: async (store: LimitStore) => store.settle(rule, key, charge, actual),
    };
  }

  #release(key: string, rule: LimitRule) {
    const id = `${rule.name} ${key}`;
    const fences = this.#fences.get(id) ?? { model: 1, store: 1 };
    const isRenewal = this.#random(2) === 0;
    if (!isRenewal) this.#fences.delete(id);
    const ask = async (store: LimitStore): Promise<unknown> => {
      const fence = store === this.#store ? fences.store : fences.model;
      return isRenewal ? store.renew(rule, key, fence) : store.release(rule, key, fence);
    };
    return { what: `${isRenewal ? "renew" : "release"} ${id}`, ask };
  }
}

/** Verdicts with fences as yes or no: they only have to rise. */
function withoutFences(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(withoutFences);
  if (typeof answer !== "object" || answer === null || !("fence" in answer)) return answer;
  return { ...answer, fence: (answer as Verdict).fence > 0 };
}

describe("the Redis store agrees with the pure functions to the microsecond", () => {
  test.each(algorithms)(`over ${stepsPerAlgorithm} random steps: %s`, async (name, policies) => {
    let steps = 0;
    for (let run = 0; steps < stepsPerAlgorithm; run++) {
      const history = new History(policies[run % policies.length]!, `${name} ${run}`);
      for (let round = 0; round < 60; round++) {
        try {
          steps += await history.round();
        } catch (error) {
          throw new Error(`${name}, run ${run}, round ${round}`, { cause: error });
        }
      }
    }
    expect(steps).toBeGreaterThanOrEqual(stepsPerAlgorithm);
  });
});
