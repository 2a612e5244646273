/**
 * Long random histories: a store must answer what the pure functions answer, also when a hundred calls go in one statement. The
 * calls of a statement have one time and are answered in the order of asking, so the model is asked likewise.
 */
import {
  concurrencyPolicy,
  type LimitRule,
  type Policy,
  parseRate,
  ratePolicy,
  type Verdict,
} from "@sluice/core";
import { postgres } from "@sluice/core/postgres";
import { virtualClock } from "@sluice/core/testing";
import fc from "fast-check";
import pg from "pg";
import { afterAll, describe, expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import type { LimitStore } from "../../src/limit/store.ts";
import { ModelStore } from "../../src/testing/model-store.ts";

const { url, schema } = freshDatabase("agreement");
const pool = new pg.Pool({ connectionString: url, max: 2 });
afterAll(() => pool.end());

const clock = virtualClock();
// One statement at a time, so that statements are answered in the order of asking as well.
const store = postgres(pool, { schema, nowUs: () => clock.nowUs(), maxBatch: 1000, maxStatements: 1 });
afterAll(() => store.close());

const statements = 40;
const callsPerStatement = 125;
const histories = 21;

/** One call: its kind and two random numbers that make it particular. */
type Call = readonly [kind: number, key: number, size: number];

/** Whole random numbers below a bound, the same for the same seed: mulberry32. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

let played = 0;

/** Both are asked the same; what the model answers at once, the store promises. */
class Play {
  readonly #rule: LimitRule;
  readonly #model = new ModelStore(clock);
  readonly #charges: Verdict[][] = [[], [], []];
  readonly #span: number;
  readonly #gapsPerSpan: number;

  /** @param gapsPerSpan How many of the longest usual gaps make up a period, or the term of a lease. */
  constructor(policy: Policy, gapsPerSpan = 4) {
    this.#gapsPerSpan = gapsPerSpan;
    this.#rule = Object.freeze({ name: `agreement-${played++}`, policy });
    this.#span = policy.algorithm === "concurrency" ? policy.leaseUs : policy.rate.periodUs;
  }

  async statement(gap: number, calls: readonly Call[]): Promise<void> {
    await this.#passTime(gap);
    const answers = calls.map((each) => {
      const [expected, seen] = [this.#ask(this.#model, each), this.#ask(store, each)];
      return { expected, seen };
    });
    const seen = await Promise.all(answers.map((answer) => answer.seen));
    const expected = answers.map((answer) => answer.expected);
    expect(seen.map(withoutFence)).toEqual(expected.map(withoutFence));
    for (const [i, [, key]] of calls.entries()) this.#keep(key, expected[i], seen[i]);
  }

  #ask(target: LimitStore, [kind, key, size]: Call): unknown {
    const { policy } = this.#rule;
    const cost = size % 4 === 0 ? 1 + (size % (policy.capacity + 2)) : 1;
    const name = `k${key}`;
    if (kind < 55) return target.consume(this.#rule, name, cost);
    if (kind < 65) return target.peek(this.#rule, name, cost);
    if (kind < 80) {
      const draws = [0, 1, 2].filter((other) => other === key || (size >> other) % 2 === 1);
      return target.consumeAll(draws.map((each) => ({ rule: this.#rule, key: `k${each}`, cost })));
    }
    if (kind === 80) return target.block(this.#rule, name, size % 3 === 0 ? 0 : size % this.#span);
    if (kind === 81) return target.reset(this.#rule, name);
    if (policy.algorithm === "concurrency") return undefined;
    if (kind < 90) return target.consumeUpTo(this.#rule, name, cost + (size % 3));
    const debit = this.#charges[key]![size % 8];
    if (debit === undefined) return undefined;
    const actual = [0, size % (debit.granted + 1), size % (2 * policy.capacity)][size % 3]!;
    return target.settle(this.#rule, name, { atUs: debit.atUs, cost: debit.granted }, actual);
  }

  #keep(key: number, expected: unknown, seen: unknown): void {
    const verdict = expected as Partial<Verdict> | undefined;
    if (typeof verdict !== "object" || !((verdict?.granted ?? 0) > 0)) return;
    const charges = this.#charges[key]!;
    charges.unshift(verdict as Verdict);
    charges.length = Math.min(charges.length, 8);
    if (this.#rule.policy.algorithm === "concurrency") expect((seen as Verdict).fence).toBe(verdict!.fence);
  }

  /** Mostly short gaps, sometimes a long one, sometimes a clock that is set back; before that, idle keys are forgotten by both. */
  async #passTime(gap: number): Promise<void> {
    if (gap < 25) clock.advance(2 * this.#span + gap);
    else if (gap < 50) {
      for (const [rule, key] of this.#model.idleKeys()) {
        this.#model.reset(rule, key);
        await store.reset(rule, key);
      }
      clock.step(-Math.floor(((gap - 24) * 3 * this.#span) / 25));
    } else clock.advance(Math.floor((gap * this.#span) / (1000 * this.#gapsPerSpan)));
  }
}

function withoutFence(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(withoutFence);
  return typeof answer === "object" && answer !== null ? { ...answer, fence: 0 } : answer;
}

describe("a hundred thousand random steps find no difference from the pure functions", () => {
  test.each<[string, Policy]>([
    ["token bucket, fractions", ratePolicy(parseRate("700/13s"), { algorithm: "token-bucket", burst: 40 })],
    ["token bucket, whole", ratePolicy(parseRate("20/s"), { algorithm: "token-bucket" })],
    ["sliding window", ratePolicy(parseRate("60/9s"), { algorithm: "sliding-window" })],
    ["sliding window in cells", ratePolicy(parseRate("1500/10s"), { algorithm: "sliding-window" })],
    ["fixed window", ratePolicy(parseRate("60/9s"), { algorithm: "fixed-window" })],
    ["concurrency", concurrencyPolicy(20, 5_000_000)],
  ])("%s", { timeout: 120_000 }, async (_, policy) => {
    await fc.assert(
      // A history from its seed, which is all that a failure has to name.
      fc.asyncProperty(fc.nat(), async (seed) => {
        const random = randomNumbers(seed);
        const play = new Play(policy);
        for (let i = 0; i < statements; i++) {
          const calls = Array.from({ length: callsPerStatement }, () => {
            const each: Call = [random(100), random(3), random(1_000_000)];
            return each;
          });
          await play.statement(random(1000), calls);
        }
      }),
      { numRuns: histories, endOnFailure: true },
    );
  });

  test("sliding window, a log of hundreds of entries", { timeout: 120_000 }, async () => {
    const policy = ratePolicy(parseRate("1000/9s"), { algorithm: "sliding-window" });
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const random = randomNumbers(seed);
        const play = new Play(policy, 1000);
        for (let i = 0; i < 400; i++) {
          const calls = Array.from({ length: 6 }, () => {
            // Nothing but debits of 1 and refunds, so that the log grows.
            const kind = random(10) === 0 ? 90 + random(10) : random(55);
            const each: Call = [kind, random(2), 12 * random(80_000) + 1 + 2 * random(2)];
            return each;
          });
          await play.statement(50 + random(900), calls);
        }
      }),
      { numRuns: 3, endOnFailure: true },
    );
    const { rows } = await pool.query<{ most: number }>(
      `SELECT max(cardinality(ats)) AS most FROM ${schema}.limit_keys`,
    );
    expect(rows[0]!.most).toBeGreaterThan(300);
  });

  test("is what the sizes above come to", () => {
    expect(statements * callsPerStatement * histories).toBeGreaterThanOrEqual(100_000);
  });
});
