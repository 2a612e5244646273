/** The promise of leases, over random histories: whoever holds what, no window ever admits more than was declared. */
import {
  type Charge,
  cachedDenials,
  type LeasedStore,
  type LimitRule,
  leased,
  memory,
  parseRate,
  ratePolicy,
  type Verdict,
} from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { farStore } from "./far-store.ts";

interface Admission {
  readonly atUs: number;
  /** What of it was used in the end. */
  cost: number;
}

/** The most cost in any half-open window of one period, found the slow way, from the end of each admission backwards. */
function fullestWindow(admissions: readonly Admission[], periodUs: number): number {
  let fullest = 0;
  let first = 0;
  let sum = 0;
  for (const { atUs, cost } of admissions) {
    sum += cost;
    while (admissions[first]!.atUs <= atUs - periodUs) sum -= admissions[first++]!.cost;
    fullest = Math.max(fullest, sum);
  }
  return fullest;
}

/** By how much any stretch of admissions exceeds burst + rate·(its length + 1 µs); below 0 when none does. */
function excess(
  admissions: readonly Admission[],
  burst: number,
  { limit, periodUs }: { limit: number; periodUs: number },
): number {
  let sum = 0;
  let least = Infinity;
  let worst = -Infinity;
  for (const { atUs, cost } of admissions) {
    least = Math.min(least, sum - (limit / periodUs) * atUs);
    sum += cost;
    worst = Math.max(worst, sum - (limit / periodUs) * (atUs + 1) - least);
  }
  return worst - burst;
}

interface Act {
  readonly gapUs: number;
  /** 3 for all of them in turn. */
  readonly holder: number;
  readonly calls: number;
  /** How long between two calls. */
  readonly paceUs: number;
  readonly cost: number;
  readonly what: "call" | "close" | "settle";
}

const acts: fc.Arbitrary<readonly Act[]> = fc.array(
  fc.record({
    gapUs: fc.oneof(fc.constant(0), fc.nat(500), fc.nat(20_000), fc.nat(120_000)),
    holder: fc.nat(3),
    calls: fc.oneof(fc.constant(1), fc.nat(20), fc.nat(200)),
    paceUs: fc.constantFrom(0, 0, 20, 100, 400, 1500),
    cost: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, fc.integer({ min: 1, max: 40 })),
    what: fc.oneof(
      { weight: 20, arbitrary: fc.constant("call" as const) },
      { weight: 1, arbitrary: fc.constant("close" as const) },
      { weight: 3, arbitrary: fc.constant("settle" as const) },
    ),
  }),
  { minLength: 5, maxLength: 40 },
);

const rules: readonly (readonly [string, LimitRule])[] = [
  ["token bucket 400/400ms", ruleOf("400/400ms", "token-bucket")],
  ["token bucket 7919/s, burst 1000", ruleOf("7919/s", "token-bucket", 1000)],
  ["sliding window 300/300ms", ruleOf("300/300ms", "sliding-window")],
  ["sliding window in cells 3000/250ms", ruleOf("3000/250ms", "sliding-window")],
];

function ruleOf(rate: string, algorithm: "token-bucket" | "sliding-window", burst?: number): LimitRule {
  return Object.freeze({ name: "l", policy: ratePolicy(parseRate(rate), { algorithm, burst }) });
}

/** Plays a history on three holders; what was admitted when, and how much of it was spent of leases. */
async function play(
  rule: LimitRule,
  history: readonly Act[],
  options: { strict: boolean; thereUs: number; cached: boolean },
) {
  const clock = virtualClock();
  const near = memory({ clock });
  // Answers come back at once, so that the instant of an answer is that of the decision.
  const far = farStore(near, clock, { thereUs: () => options.thereUs });
  // A holder that ends closes the store it leases from; here others go on with it.
  const shared = { ...far, close: () => {} };
  const make = (): LeasedStore =>
    leased(options.cached ? cachedDenials(shared, { clock }) : shared, {
      clock,
      guardPart: 0.1,
      strict: options.strict,
    });
  const holders = [make(), make(), make()];
  const admissions: Admission[] = [];
  let [local, open] = [0, 0];
  let last: { admission: Admission; charge: Charge; holder: number } | undefined;
  const call = (holder: number, cost: number): void => {
    const note = ({ allowed, granted, atUs }: Verdict): void => {
      if (!allowed) return;
      expect(granted).toBe(cost);
      const admission = { atUs: clock.nowUs(), cost };
      admissions.push(admission);
      last = { admission, charge: { atUs, cost }, holder };
    };
    const answer = holders[holder]!.consume(rule, "k", cost);
    if (!("then" in answer)) {
      if (answer.allowed) local++;
      note(answer);
      return;
    }
    open++;
    void answer.then((verdict) => {
      open--;
      note(verdict);
    });
  };
  for (const { gapUs, holder, calls, paceUs, cost, what } of history) {
    await clock.advanceAsync(gapUs);
    if (what === "close") {
      void holders[holder % 3]!.close();
      holders[holder % 3] = make();
    } else if (what === "settle") {
      // Less than was charged was used, and another one may use the rest.
      if (last === undefined) continue;
      const used = Math.floor(last.charge.cost / 2);
      void holders[last.holder]!.settle(rule, "k", last.charge, used);
      last.admission.cost = used;
      last = undefined;
    } else {
      for (let i = 0; i < calls; i++) {
        if (paceUs > 0) await clock.advanceAsync(paceUs);
        call(holder === 3 ? i % 3 : holder, cost);
      }
    }
  }
  await clock.advanceAsync(3_000_000);
  expect([open, clock.pendingTimers]).toEqual([0, 0]);
  return { admissions, local };
}

function excessOf(admissions: readonly Admission[], { policy }: LimitRule): number {
  if (policy.algorithm === "token-bucket") return excess(admissions, policy.capacity, policy.rate);
  if (policy.algorithm === "sliding-window")
    return fullestWindow(admissions, policy.rate.periodUs) - policy.capacity;
  throw new Error("no bound");
}

const runs = Number(process.env["SLUICE_PROPERTY_RUNS"] ?? 250);

describe.each(rules)("leases of a %s, by three holders", (_, rule) => {
  test("never admit more than declared in any window", async () => {
    let [local, all] = [0, 0];
    const property = fc.asyncProperty(acts, fc.nat(3000), fc.boolean(), async (history, thereUs, cached) => {
      const played = await play(rule, history, { strict: true, thereUs, cached });
      expect(excessOf(played.admissions, rule)).toBeLessThanOrEqual(1e-6);
      local += played.local;
      all += played.admissions.length;
    });
    await fc.assert(property, { numRuns: runs });
    // The histories are of the kind that leases are for.
    expect(local / all).toBeGreaterThan(0.2);
  });

  test("the same histories without `strict` do exceed it, so the check can fail", async () => {
    let worst = -Infinity;
    const property = fc.asyncProperty(acts, async (history) => {
      const { admissions } = await play(rule, history, { strict: false, thereUs: 100, cached: false });
      worst = Math.max(worst, excessOf(admissions, rule));
    });
    await fc.assert(property, { numRuns: 150, seed: 7 });
    expect(worst).toBeGreaterThan(0);
  });
});

describe("under-use, when three holders ask for all they can get", () => {
  test.each([
    ["sliding window", ruleOf("10000/s", "sliding-window"), 0.98],
    ["token bucket", ruleOf("10000/s", "token-bucket"), 1],
  ] as const)(
    "a %s is used to what was promised",
    async (_, rule, share) => {
      const clock = virtualClock();
      const far = farStore(memory({ clock }), clock, { thereUs: () => 200 });
      const holders = [0, 1, 2].map(() => leased(far, { clock }));
      const admissions: Admission[] = [];
      const startUs = clock.nowUs();
      const seconds = 5;
      const demand = (store: LeasedStore): void => {
        if (clock.nowUs() - startUs >= seconds * 1_000_000) return;
        for (let i = 0; i < 20; i++) {
          void Promise.resolve(store.consume(rule, "k", 1)).then(({ allowed }) => {
            if (allowed) admissions.push({ atUs: clock.nowUs(), cost: 1 });
          });
        }
        clock.setTimer(() => demand(store), 1000);
      };
      for (const store of holders) demand(store);
      await clock.advanceAsync((seconds + 1) * 1_000_000);
      const steady = admissions.filter(({ atUs }) => atUs > startUs + 1_000_000).length / (seconds - 1);
      expect(steady / 10_000).toBeGreaterThan(share * 0.98);
      expect(excessOf(admissions, rule)).toBeLessThanOrEqual(1e-6);
    },
    60_000,
  );
});
