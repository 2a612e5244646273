import {
  cachedDenials,
  concurrencyPolicy,
  type LeaseOptions,
  type LimitRule,
  leased,
  limit,
  memory,
  parseRate,
  type RateAlgorithm,
  ratePolicy,
  type Verdict,
} from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { describe, expect, test } from "vitest";
import { type Fate, farStore } from "./far-store.ts";

function ruleOf(rate: string, algorithm: RateAlgorithm = "token-bucket", name = "l"): LimitRule {
  return Object.freeze({ name, policy: ratePolicy(parseRate(rate), { algorithm }) });
}

/** One holder of leases, or several, of one store. */
function scene(options: Omit<LeaseOptions, "clock"> = {}, travelUs = 100) {
  const clock = virtualClock();
  const near = memory({ clock });
  const control = { fate: "arrive" as Fate, backUs: 0 };
  const distance = { thereUs: () => travelUs, backUs: () => control.backUs, fate: () => control.fate };
  const far = farStore(near, clock, distance);
  const another = () => leased(far, { clock, guardPart: 0.1, ...options });
  const store = another();
  const events: string[] = [];
  store.on("leased", ({ granted, asked }) => events.push(`leased ${granted}/${asked}`));
  store.on("returned", ({ granted }) => events.push(`returned ${granted}`));
  store.on("forfeited", ({ granted }) => events.push(`forfeited ${granted}`));
  /** Asks `times` times, one after the other, each after the answer to the one before. */
  const spend = async (rule: LimitRule, times: number, gapUs = 0, key = "k"): Promise<Verdict[]> => {
    const verdicts: Verdict[] = [];
    for (let i = 0; i < times; i++) {
      const answer = store.consume(rule, key, 1);
      let isAnswered = !("then" in answer);
      if ("then" in answer)
        void answer.then(() => {
          isAnswered = true;
        });
      for (let turns = 0; !isAnswered && turns < 20; turns++) await clock.advanceAsync(travelUs);
      if (!isAnswered) throw new Error("not answered in 20 turns");
      verdicts.push(await answer);
      if (gapUs > 0) await clock.advanceAsync(gapUs);
    }
    return verdicts;
  };
  return { clock, near, far, store, another, events, spend, control };
}

describe("leased", () => {
  test("the first call of a key asks for its own cost only; then leases grow with demand", async () => {
    const { far, spend, events } = scene();
    const rule = ruleOf("10000/s");
    await spend(rule, 1);
    expect([far.asked, events]).toEqual([["consume"], []]);
    await spend(rule, 2000);
    expect(far.asked.length).toBeLessThan(20);
    const sizes = events.map((event) => Number(/\/(\d+)/.exec(event)?.[1]));
    expect(sizes.slice(0, 6)).toEqual([2, 2, 4, 8, 16, 32]);
  });

  test("spends locally and at once, and the next lease is there before this one is used up", async () => {
    const { far, store, spend, clock } = scene();
    const rule = ruleOf("100000/s");
    await spend(rule, 3000, 10);
    const asked = far.asked.length;
    let waited = 0;
    for (let i = 0; i < 2000; i++) {
      if ("then" in store.consume(rule, "k", 1)) waited++;
      await clock.advanceAsync(10);
    }
    expect(far.asked.length - asked).toBeGreaterThan(0);
    expect(waited).toBe(0);
  });

  test("what expires unspent is returned, and the next lease is smaller", async () => {
    const { clock, near, spend, events } = scene({ ttlMs: 100 });
    const rule = ruleOf("1000/s");
    await spend(rule, 60);
    expect(events.some((event) => event.startsWith("returned"))).toBe(false);
    const before = near.peek(rule, "k", 1).remaining;
    await clock.advanceAsync(120_000);
    expect(events.at(-1)).toMatch(/^returned/);
    const returned = events.filter((event) => event.startsWith("returned"));
    const sum = returned.reduce((total, event) => total + Number(event.split(" ")[1]), 0);
    expect(near.peek(rule, "k", 1).remaining).toBeGreaterThanOrEqual(Math.min(900, before + sum));
    expect(clock.pendingTimers).toBe(0);
  });

  test("nothing is spent later than a ttl after its debit, however steadily it is used", async () => {
    const { clock, store, spend } = scene();
    const rule = ruleOf("1000/s", "sliding-window");
    await spend(rule, 200);
    let local = 0;
    for (let i = 0; i < 300; i++) {
      await clock.advanceAsync(7_000);
      const verdict = store.consume(rule, "k", 1);
      if ("then" in verdict) continue;
      local++;
      // The log of a small window has the instant of each debit.
      expect(clock.nowUs() - verdict.atUs).toBeLessThan(100_000);
    }
    expect(local).toBeGreaterThan(100);
  });

  test("a lease that was debited before a reset and arrives after it is not spent", async () => {
    const { clock, store, spend, control } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    await spend(rule, 60);
    control.backUs = 1000;
    let asking = store.consume(rule, "k", 1);
    while (!("then" in asking)) asking = store.consume(rule, "k", 1);
    await clock.advanceAsync(500);
    const reset = store.reset(rule, "k");
    await clock.advanceAsync(5000);
    await reset;
    expect((await asking).allowed).toBe(true);
    expect("then" in store.consume(rule, "k", 1)).toBe(true);
    await clock.advanceAsync(5000);
  });

  test("close returns what is held, then closes the store; a question under way is waited for", async () => {
    const { clock, near, spend, store, events } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    await spend(rule, 40);
    const late = store.consume(rule, "other", 1);
    const held = 1000 - near.peek(rule, "k", 1).remaining - 40;
    expect(held).toBeGreaterThan(0);
    let remaining = -1;
    const close = near.close.bind(near);
    near.close = () => {
      remaining = near.peek(rule, "k", 1).remaining;
      close();
    };
    const closing = store.close();
    await clock.advanceAsync(1000);
    await closing;
    expect((await late).allowed).toBe(true);
    expect(remaining).toBe(960);
    expect(events.filter((event) => event.startsWith("returned")).length).toBeGreaterThan(0);
    const refused = expect(store.consume(rule, "k", 1)).rejects.toMatchObject({ code: "closed" });
    await clock.advanceAsync(100);
    await refused;
    expect(clock.pendingTimers).toBe(0);
  });

  test("a cost that leases here could pay for is not denied: they are returned and it is asked for alone", async () => {
    const { clock, spend, store, far } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    await spend(rule, 100);
    const answer = store.consume(rule, "k", 900);
    await clock.advanceAsync(1000);
    expect((await answer).allowed).toBe(true);
    expect(far.asked.slice(-2)).toEqual(["settle", "consume"]);
  });

  test("of many who wait one is asked for: they share a lease, or the denial", async () => {
    const { clock, store, far } = scene();
    const rule = ruleOf("100/h", "sliding-window");
    const answers = Array.from({ length: 5000 }, () => store.consume(rule, "k", 1));
    await clock.advanceAsync(10_000);
    const verdicts = await Promise.all(answers);
    expect(verdicts.filter(({ allowed }) => allowed).length).toBe(100);
    expect(far.asked.length).toBeLessThan(6);
    const denial = verdicts.at(-1)!;
    expect([denial.allowed, denial.remaining, denial.granted]).toEqual([false, 0, 0]);
    // The period of the debits is longer by the ttl, which is 1 s here.
    expect(denial.retryAfterUs).toBeGreaterThan(3_600_000_000 - 20_000);
  });

  test("under more demand than there is nobody waits for its turn: an answer, or the denial right after it", async () => {
    const { clock, store } = scene({}, 500);
    const rule = ruleOf("10000/s");
    let [admitted, slowestUs, open] = [0, 0, 0];
    const startUs = clock.nowUs();
    for (let ms = 0; ms < 1000; ms++) {
      for (let i = 0; i < 100; i++) {
        const askedUs = clock.nowUs();
        open++;
        void Promise.resolve(store.consume(rule, "k", 1)).then(({ allowed, retryAfterUs }) => {
          open--;
          if (allowed) admitted++;
          else expect(retryAfterUs).toBeGreaterThan(0);
          slowestUs = Math.max(slowestUs, clock.nowUs() - askedUs);
        });
      }
      await clock.advanceAsync(1000);
    }
    await clock.advanceAsync(20_000);
    // The question that was under way, its own, and what told it how long to wait.
    expect([open, slowestUs <= 4 * 500]).toEqual([0, true]);
    const possible = 9_000 + (10_000 * (clock.nowUs() - startUs)) / 1_000_000;
    expect(admitted).toBeLessThanOrEqual(possible + 1_000);
    expect(admitted).toBeGreaterThan(0.9 * possible);
  });

  test("costs of all sizes at once: nobody is denied what there was, nobody waits for ever", async () => {
    const { clock, store } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    const costs = [1, 5, 300, 1, 1000, 2, 50, 600, 1001, 1, 30];
    const answers = costs.map((cost) => store.consume(rule, "k", cost));
    await clock.advanceAsync(20_000);
    const verdicts = await Promise.all(answers);
    expect(verdicts.map(({ allowed }) => allowed)).toEqual([
      true,
      true,
      true,
      true,
      false,
      true,
      true,
      true,
      false,
      true,
      true,
    ]);
    expect(verdicts[8]!.never).toBe(true);
  });

  test("near empty it asks exactly, so that what another process needs does not lie idle here", async () => {
    const { clock, spend, store, another, near } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    const other = another();
    await spend(rule, 985);
    const held = 1000 - 985 - near.peek(rule, "k", 1).remaining;
    expect(held).toBeLessThanOrEqual(15);
    // Returned on idling.
    await clock.advanceAsync(2_000_000);
    const answers = Array.from({ length: 20 }, () => other.consume(rule, "k", 1));
    await clock.advanceAsync(10_000);
    expect((await Promise.all(answers)).filter(({ allowed }) => allowed).length).toBe(15);
    expect((await spend(rule, 1))[0]!.allowed).toBe(false);
    void store;
  });

  test("a lease that arrives after its time is given back unspent", async () => {
    const { clock, spend, store, control, events } = scene({ ttlMs: 50 });
    const rule = ruleOf("1000/s", "sliding-window");
    await spend(rule, 5);
    await clock.advanceAsync(30_000);
    events.length = 0;
    control.backUs = 60_000;
    const late = store.consume(rule, "k", 1);
    await clock.advanceAsync(61_000);
    // It was debited for this caller, as without leases.
    expect((await late).allowed).toBe(true);
    control.backUs = 0;
    await clock.advanceAsync(1000);
    const leasedNow = events.find((event) => event.startsWith("leased"));
    if (leasedNow !== undefined) expect(events).toContain("returned 1");
  });

  test("a failure reaches those who waited for the answer, and nobody else", async () => {
    const { clock, spend, store, control, events } = scene();
    const rule = ruleOf("10000/s");
    await spend(rule, 200);
    await clock.advanceAsync(1_000_000);
    control.fate = "refuse";
    await expect(store.consume(rule, "k", 1)).rejects.toThrow("ECONNREFUSED");
    control.fate = "arrive";
    expect((await spend(rule, 1))[0]!.allowed).toBe(true);

    // For a ttl after a failure it asks exactly.
    await clock.advanceAsync(1_000_000);
    await spend(rule, 200);
    control.fate = "refuse";
    await clock.advanceAsync(1_000_000);
    expect(events.at(-1)).toMatch(/^forfeited/);
  });

  test("block: what is held here is no longer spent", async () => {
    const { clock, spend, store } = scene();
    const rule = ruleOf("10000/s");
    await spend(rule, 300);
    const blocked = store.block(rule, "k", 5_000_000);
    await clock.advanceAsync(1000);
    await blocked;
    expect((await spend(rule, 1))[0]).toMatchObject({ allowed: false });
    await clock.advanceAsync(5_000_000);
    expect((await spend(rule, 1))[0]!.allowed).toBe(true);
  });

  test("reset: the whole capacity is available, and nothing from before comes back on top of it", async () => {
    const { clock, spend, store, near } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    await spend(rule, 100);
    const reset = store.reset(rule, "k");
    await clock.advanceAsync(1000);
    await reset;
    expect(near.peek(rule, "k", 1).remaining).toBe(1000);
    await clock.advanceAsync(10_000_000);
    expect(near.peek(rule, "k", 1).remaining).toBe(1000);
    await spend(rule, 1100);
    expect(near.peek(rule, "k", 1).remaining).toBe(0);
  });

  test("a reservation made of a lease is settled in the store", async () => {
    const { clock, spend, store, near } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    await spend(rule, 100);
    await clock.advanceAsync(1000);
    const verdict = store.consume(rule, "k", 2) as Verdict;
    expect(verdict.granted).toBe(2);
    const before = near.peek(rule, "k", 1).remaining;
    const settled = store.settle(rule, "k", { atUs: verdict.atUs, cost: 2 }, 0);
    await clock.advanceAsync(1000);
    await settled;
    expect(near.peek(rule, "k", 1).remaining).toBe(before + 2);
  });

  test("groups spend leases when all of them cover their draws, else ask for all at once", async () => {
    const { clock, spend, store, far } = scene();
    const [a, b] = [ruleOf("1000/h", "sliding-window", "a"), ruleOf("5/h", "sliding-window", "b")];
    await spend(a, 50);
    const asked = far.asked.length;
    const local = store.consumeAll([{ rule: a, key: "k", cost: 1 }]);
    expect("then" in local).toBe(false);
    const group = store.consumeAll([a, b].map((rule) => ({ rule, key: "k", cost: 6 })));
    await clock.advanceAsync(1000);
    expect((await group).map(({ allowed, granted }) => [allowed, granted])).toEqual([
      [true, 0],
      [false, 0],
    ]);
    expect(far.asked.slice(asked)).toContain("consumeAll");
  });

  test("peek counts what is held here", async () => {
    const { clock, spend, store, near } = scene();
    const rule = ruleOf("1000/h", "sliding-window");
    await spend(rule, 100);
    await clock.advanceAsync(1000);
    expect(near.peek(rule, "k", 1).remaining).toBeLessThan(900);
    const seen = store.peek(rule, "k", 1);
    await clock.advanceAsync(1000);
    expect((await seen).remaining).toBe(900);
  });

  test.each([
    ["a fixed window", ruleOf("10000/s", "fixed-window")],
    ["a small limit", ruleOf("10/s", "sliding-window")],
    [
      "strict pacing",
      Object.freeze({
        name: "l",
        policy: ratePolicy(parseRate("1000/s"), { algorithm: "token-bucket", burst: 1 }),
      }),
    ],
  ])("asks exactly, under the rule as declared, for %s", async (_, rule) => {
    const { far, near, spend } = scene();
    const verdicts = await spend(rule, 30);
    expect(far.asked).toEqual(Array(30).fill("consume"));
    expect(verdicts[0]!.remaining).toBe(rule.policy.capacity - 1);
    expect(near.peek(rule, "k", 1).remaining).toBeLessThanOrEqual(rule.policy.capacity);
  });

  test("slots of a concurrency limit are handed through", async () => {
    const { clock, store } = scene();
    const rule = Object.freeze({ name: "c", policy: concurrencyPolicy(1000, 60_000_000) });
    const taken = store.consume(rule, "k", 1);
    await clock.advanceAsync(1000);
    const { fence } = await taken;
    const renewed = store.renew(rule, "k", fence);
    const released = store.release(rule, "k", fence);
    await clock.advanceAsync(1000);
    expect([typeof (await renewed), await released]).toEqual(["number", true]);
  });

  test("holds at most maxKeys keys, forgets the idle ones, and asks exactly for others", async () => {
    const { clock, spend, store, far } = scene({ maxKeys: 50 });
    const rule = ruleOf("100000/h", "sliding-window");
    for (let i = 0; i < 50; i++) await spend(rule, 10, 0, `hot${i}`);
    far.asked.length = 0;
    await spend(rule, 10, 0, "cold");
    expect(far.asked).toEqual(Array(10).fill("consume"));
    await clock.advanceAsync(3_000_000);
    await spend(rule, 40, 0, "next");
    expect(far.asked.length).toBeLessThan(100);
    for (let i = 0; i < 5000; i++) void store.consume(rule, `once${i}`, 1);
    await clock.advanceAsync(3_000_000);
    expect(clock.pendingTimers).toBe(0);
  });

  test("a changed rate returns what was leased under the old one", async () => {
    const { clock, spend, near } = scene();
    await spend(ruleOf("1000/h", "sliding-window"), 100);
    await spend(ruleOf("2000/h", "sliding-window"), 1);
    await clock.advanceAsync(10_000);
    expect(near.peek(ruleOf("2000/h", "sliding-window"), "k", 1).remaining).toBe(2000 - 101);
  });

  test("limits of the library work on it: acquire, reserve, peek, reset", async () => {
    const clock = virtualClock();
    const far = farStore(memory({ clock }), clock);
    const store = leased(cachedDenials(far, { clock }), { clock });
    const l = limit("l", "1000/s", { algorithm: "token-bucket", store, clock });
    const startUs = clock.nowUs();
    const waits = Array.from({ length: 2500 }, () => l.acquire());
    await clock.advanceAsync(2_000_000);
    expect((await Promise.all(waits)).every(({ allowed }) => allowed)).toBe(true);
    expect(clock.nowUs() - startUs).toBeGreaterThanOrEqual(1_500_000);
    await l.reset();
    expect(await l.available()).toBeGreaterThan(900);
    await l.close();
    await store.close();
  });

  test.each([
    [{ ttlMs: 1 }],
    [{ most: 1 }],
    [{ strict: 1 }],
    [{ guardPart: 0 }],
    [{ guardPart: 0.6 }],
    [{ maxKeys: 0 }],
    [{ size: 5 }],
  ])("refuses %o", (options) => {
    const code = { code: "invalid_option" };
    expect(() => leased(memory(), options as never)).toThrow(expect.objectContaining(code));
  });
});
