import assert from "node:assert/strict";
import { isSluiceError } from "../base/errors.ts";
import { parseRate } from "../base/rate.ts";
import {
  type RatePolicy,
  type RatePolicyOptions,
  type RateState,
  rateConsume,
  ratePeek,
  ratePolicy,
} from "../limit/algorithms/policy.ts";
import type { LimitRule, LimitStore } from "../limit/store.ts";
import { type VirtualClock, virtualClock } from "./virtual-clock.ts";

/** One thing every store must do. Hand it to the test runner of your choice. */
export interface ConformanceCase {
  /** A sentence about the behaviour. */
  readonly name: string;
  /** Rejects when the store does otherwise. */
  run(): Promise<void>;
}

/** Makes an empty store that takes its time from `clock`. Called once per case; the suite closes what it gets. */
export type MakeStore = (clock: VirtualClock) => LimitStore | Promise<LimitStore>;

/**
 * The suite a store must pass to hold the state of limits: its answers equal those of the pure algorithms to the
 * microsecond, over every algorithm, whatever the order of requests and whatever the clock does.
 *
 * @example
 *     for (const { name, run } of storeConformance((clock) => memory({ clock }))) test(name, run);
 */
export function storeConformance(makeStore: MakeStore): readonly ConformanceCase[] {
  const cases = [
    ...policies.map(([label, rate, options]) => agreement(label, ratePolicy(parseRate(rate), options))),
    ...behaviours,
  ];
  return cases.map(({ name, check }) => ({
    name,
    async run() {
      const clock = virtualClock();
      const store = await makeStore(clock);
      try {
        await check(store, clock);
      } finally {
        await store.close();
      }
    },
  }));
}

interface StoreCheck {
  readonly name: string;
  check(store: LimitStore, clock: VirtualClock): Promise<void>;
}

const policies: readonly [label: string, rate: string, options: RatePolicyOptions][] = [
  ["token bucket 10/s, burst 10", "10/s", { algorithm: "token-bucket" }],
  ["token bucket 3/10s, strict pacing", "3/10s", { algorithm: "token-bucket", burst: 1 }],
  ["token bucket 7/0.7s, burst 3", "7/0.7s", { algorithm: "token-bucket", burst: 3 }],
  ["token bucket 1/3600s, burst 2", "1/3600s", { algorithm: "token-bucket", burst: 2 }],
  ["token bucket 999983/s, burst 1000", "999983/s", { algorithm: "token-bucket", burst: 1000 }],
  ["sliding window 5/250ms", "5/250ms", { algorithm: "sliding-window" }],
  ["sliding window 100/60s", "100/60s", { algorithm: "sliding-window" }],
  ["sliding window 1/3600s", "1/3600s", { algorithm: "sliding-window" }],
  ["fixed window 20/60s on the calendar", "20/60s", { algorithm: "fixed-window" }],
  [
    "fixed window 20/7s from the first request",
    "20/7s",
    { algorithm: "fixed-window", align: "first-request" },
  ],
];

/** A random history over three keys, compared step by step with the pure algorithm. */
function agreement(label: string, policy: RatePolicy): StoreCheck {
  return {
    name: `agrees with the pure algorithm to the microsecond: ${label}`,
    async check(store, clock) {
      const rule: LimitRule = Object.freeze({ name: "agreement", policy });
      const states = new Map<string, RateState>();
      const random = randomNumbers(label);
      for (let step = 0; step < 600; step++) {
        passTime(clock, policy, random);
        const key = ["a", "b", "a:b"][random(3)]!;
        const cost = random(4) === 0 ? 1 + random(policy.capacity + 2) : 1;
        const nowUs = clock.nowUs();
        const state = states.get(key);
        if (random(5) === 0) {
          const seen = await store.peek(rule, key, cost);
          assert.deepEqual(seen, ratePeek(state, nowUs, cost, policy), `step ${step}: peek ${key} ${cost}`);
          continue;
        }
        const expected = rateConsume(state, nowUs, cost, policy);
        states.set(key, expected.state);
        assert.deepEqual(
          await store.consume(rule, key, cost),
          expected.verdict,
          `step ${step}: ${key} ${cost}`,
        );
      }
    },
  };
}

/** Mostly short gaps, sometimes a long one, sometimes a clock that is set back. */
function passTime(clock: VirtualClock, policy: RatePolicy, random: (below: number) => number): void {
  const { limit, periodUs } = policy.rate;
  const kind = random(40);
  if (kind === 0) clock.advance(2 * periodUs + random(periodUs));
  else if (kind === 1) clock.step(-random(3 * periodUs));
  else if (kind < 20) clock.advance(random(Math.ceil((2 * periodUs) / limit)));
}

const behaviours: readonly StoreCheck[] = [
  {
    name: "a denial consumes nothing, and retryAfterUs is exact",
    async check(store, clock) {
      for (const rule of oneOfEach("3/10s")) {
        for (let i = 0; i < 3; i++)
          assert.equal((await store.consume(rule, "k", 1)).allowed, true, rule.name);
        const first = await store.consume(rule, "k", 1);
        for (let i = 0; i < 20; i++) assert.deepEqual(await store.consume(rule, "k", 1), first, rule.name);
        clock.advance(first.retryAfterUs - 1);
        assert.equal((await store.consume(rule, "k", 1)).allowed, false, `${rule.name}: 1 µs early`);
        clock.advance(1);
        assert.equal((await store.consume(rule, "k", 1)).allowed, true, `${rule.name}: on time`);
      }
    },
  },
  {
    name: "a cost above the capacity is never admitted and consumes nothing",
    async check(store) {
      for (const rule of oneOfEach("3/10s")) {
        const verdict = await store.consume(rule, "k", 4);
        assert.deepEqual(
          [verdict.allowed, verdict.never, verdict.retryAfterUs],
          [false, true, Infinity],
          rule.name,
        );
        assert.equal(verdict.remaining, 3, rule.name);
        assert.equal((await store.consume(rule, "k", 3)).allowed, true, rule.name);
      }
    },
  },
  {
    name: "a peek changes nothing",
    async check(store) {
      for (const rule of oneOfEach("3/10s")) {
        await store.consume(rule, "k", 1);
        const seen = await store.peek(rule, "k", 2);
        assert.deepEqual([seen.allowed, seen.remaining], [true, 2], rule.name);
        assert.deepEqual(await store.peek(rule, "k", 2), seen, rule.name);
        assert.equal((await store.consume(rule, "k", 2)).allowed, true, rule.name);
      }
    },
  },
  {
    name: "keys and limits do not touch each other, however they are spelled",
    async check(store) {
      const policy = ratePolicy(parseRate("1/h"), { algorithm: "sliding-window" });
      const spellings = [
        "a",
        "a:b",
        "b",
        "A",
        "{a}",
        "a ",
        "a\u0301",
        "á",
        "__proto__",
        "constructor",
        "*",
        "",
      ];
      for (const name of ["l", "l:a", "{l}"]) {
        const rule = Object.freeze({ name, policy });
        for (const key of spellings) {
          assert.equal((await store.consume(rule, key, 1)).allowed, true, `${name} ${JSON.stringify(key)}`);
        }
      }
    },
  },
  {
    name: "a reset makes the whole capacity of that key available, and of no other",
    async check(store) {
      for (const rule of oneOfEach("3/10s")) {
        await store.consume(rule, "k", 3);
        await store.consume(rule, "other", 3);
        await store.reset(rule, "k");
        await store.reset(rule, "never seen");
        assert.equal((await store.peek(rule, "k", 1)).remaining, 3, rule.name);
        assert.equal((await store.peek(rule, "other", 1)).remaining, 0, rule.name);
      }
    },
  },
  {
    name: "of many requests at once exactly the capacity is admitted",
    async check(store) {
      for (const rule of oneOfEach("50/h")) {
        const asked = Array.from({ length: 200 }, async () => store.consume(rule, "k", 1));
        const admitted = (await Promise.all(asked)).filter(({ allowed }) => allowed);
        assert.equal(admitted.length, 50, rule.name);
      }
    },
  },
  {
    name: "an idle key is as if it had never been used",
    async check(store, clock) {
      for (const rule of oneOfEach("3/10s")) {
        const fresh = await store.peek(rule, "fresh", 1);
        await store.consume(rule, "k", 3);
        clock.advance(20_000_000);
        const idle = await store.peek(rule, "k", 1);
        assert.deepEqual({ ...idle, resetAtUs: 0 }, { ...fresh, resetAtUs: 0 }, rule.name);
      }
    },
  },
  {
    name: "a closed store refuses every call with closed",
    async check(store) {
      const [rule] = oneOfEach("3/10s");
      await store.close();
      await store.close();
      for (const attempt of [
        async () => store.consume(rule!, "k", 1),
        async () => store.peek(rule!, "k", 1),
        async () => store.reset(rule!, "k"),
      ]) {
        await assert.rejects(attempt, (error) => isSluiceError(error, "closed"));
      }
    },
  },
];

/** A rule of each algorithm with the same rate. */
function oneOfEach(rate: string): readonly LimitRule[] {
  const algorithms = ["token-bucket", "sliding-window", "fixed-window"] as const;
  return algorithms.map((algorithm) =>
    Object.freeze({ name: algorithm, policy: ratePolicy(parseRate(rate), { algorithm }) }),
  );
}

/** Whole random numbers below a bound, the same for the same seed: mulberry32. */
function randomNumbers(seed: string): (below: number) => number {
  let state = [...seed].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)!) >>> 0, 7);
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
