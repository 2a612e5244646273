import { describe, expect, test, vi } from "vitest";
import { isSluiceError } from "../base/errors.ts";
import { parseRate, type RateInput } from "../base/rate.ts";
import { memory } from "../stores/memory/memory-store.ts";
import { distantStore } from "../testing/distant-store.ts";
import { type VirtualClock, virtualClock } from "../testing/virtual-clock.ts";
import { type RatePolicy, ratePolicy } from "./algorithms/policy.ts";
import type { Decision } from "./decision.ts";
import { Limit } from "./limit.ts";
import type { LimitStore } from "./store.ts";

const ms = 1_000;

interface Setting {
  readonly clock: VirtualClock;
  readonly limit: Limit;
  /** What became of the waits, in the order it did: `name@ms` or `name:outcome@ms`. */
  readonly log: string[];
  readonly follow: (name: string, wait: Promise<Decision>) => void;
}

interface SettingOptions {
  readonly rate?: string;
  readonly burst?: number;
  readonly maxWaiters?: number;
  readonly latencyUs?: number;
}

function setUp({ rate = "1/10ms", burst, maxWaiters = 100, latencyUs }: SettingOptions = {}): Setting {
  const clock = virtualClock(0);
  const near = memory({ clock });
  const store = latencyUs === undefined ? near : distantStore(near, clock, latencyUs);
  const algorithm = burst === undefined ? "sliding-window" : "token-bucket";
  const policy = ratePolicy(parseRate(rate), { algorithm, burst });
  const policyOf = (input: RateInput): RatePolicy => ratePolicy(parseRate(input), { algorithm, burst });
  const limit = new Limit({
    rule: { name: "l", policy },
    store,
    clock,
    maxWaiters,
    policyOf,
    onClose: () => {},
  });
  const log: string[] = [];
  const at = (name: string): void => void log.push(`${name}@${clock.nowUs() / ms}`);
  const follow = (name: string, wait: Promise<Decision>): void => {
    wait.then(
      ({ allowed }) => at(allowed ? name : `${name}:refused`),
      (error: unknown) => at(`${name}:${isSluiceError(error) ? error.code : (error as Error).message}`),
    );
  };
  return { clock, limit, log, follow };
}

describe("acquire", () => {
  test("admits at once while there is budget, then in the order of asking", async () => {
    const { clock, limit, log, follow } = setUp();
    for (const name of ["a", "b", "c", "d"]) follow(name, limit.acquire());
    expect(limit.waiters).toBe(3);
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["a@0", "b@10", "c@20", "d@30"]);
    expect([limit.waiters, clock.pendingTimers]).toEqual([0, 0]);
  });

  test("starts as evenly as the rate allows with burst 1", async () => {
    const { clock, limit, log, follow } = setUp({ rate: "3/10ms", burst: 1 });
    for (let i = 0; i < 7; i++) follow(`${i}`, limit.acquire());
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["0@0", "1@3.334", "2@6.667", "3@10", "4@13.334", "5@16.667", "6@20"]);
  });

  test("lets nobody small overtake somebody big", async () => {
    const { clock, limit, log, follow } = setUp({ rate: "3/30ms", burst: 3 });
    follow("first", limit.acquire(2));
    follow("big", limit.acquire(3));
    follow("small", limit.acquire(1));
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["first@0", "big@20", "small@30"]);
  });

  test("keeps a line for each key", async () => {
    const { clock, limit, log, follow } = setUp();
    follow("a1", limit.for("a").acquire());
    follow("a2", limit.for("a").acquire());
    follow("b1", limit.for("b").acquire());
    follow("a3", limit.for("a").acquire());
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["a1@0", "b1@0", "a2@10", "a3@20"]);
  });

  test("serves from a reset at once", async () => {
    const { clock, limit, log, follow } = setUp({ rate: "2/s" });
    for (const name of ["a", "b", "c", "d", "e"]) follow(name, limit.acquire());
    await clock.advanceAsync(5 * ms);
    await limit.reset();
    await clock.advanceAsync(0);
    expect(log).toEqual(["a@0", "b@0", "c@5", "d@5"]);
  });

  test("rejects a cost that could never be admitted", async () => {
    const { limit } = setUp({ rate: "3/s" });
    await expect(limit.acquire(4)).rejects.toMatchObject({ code: "cost_exceeds_capacity" });
    await expect(limit.acquire(4, { maxWaitMs: 0 })).rejects.toMatchObject({ code: "cost_exceeds_capacity" });
  });

  test("takes only so many waiters, over all keys, and more when they have gone", async () => {
    const { clock, limit, log, follow } = setUp({ maxWaiters: 2 });
    for (const name of ["a", "b", "c", "d"]) follow(name, limit.acquire());
    follow("x", limit.for("other").acquire());
    follow("y", limit.for("other").acquire());
    await clock.advanceAsync(10 * ms);
    follow("e", limit.acquire());
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual([
      "a@0",
      "d:too_many_waiters@0",
      "x@0",
      "y:too_many_waiters@0",
      "b@10",
      "c@20",
      "e@30",
    ]);
  });

  test("asks the store directly for a key whose line has gone, also when no place is left for waiters", async () => {
    const { clock, limit, log, follow } = setUp({ maxWaiters: 1 });
    follow("a", limit.acquire());
    follow("b", limit.acquire());
    await clock.advanceAsync(15 * ms);
    follow("x", limit.for("other").acquire());
    follow("y", limit.for("other").acquire());
    await clock.advanceAsync(5 * ms);
    follow("c", limit.acquire());
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["a@0", "b@10", "x@15", "c@20", "y@25"]);
  });

  test("turns everybody away when the limit closes, and leaves no timer", async () => {
    const { clock, limit, log, follow } = setUp();
    for (const name of ["a", "b", "c"]) follow(name, limit.acquire(1, { maxWaitMs: 500 }));
    await clock.advanceAsync(1 * ms);
    await limit.close();
    await clock.advanceAsync(0);
    expect(log).toEqual(["a@0", "b:closed@1", "c:closed@1"]);
    expect([limit.waiters, clock.pendingTimers]).toEqual([0, 0]);
  });

  test.each([[{ maxWaitMs: -1 }], [{ maxWaitMs: Number.NaN }], [{ maxWait: 5 }], [{ signal: {} }], [null]])(
    "refuses the options %j",
    async (options) => {
      const { limit } = setUp();
      await expect(limit.acquire(1, options as never)).rejects.toMatchObject({ code: "invalid_option" });
      expect(await limit.available()).toBe(1);
    },
  );
});

describe("maxWaitMs", () => {
  test("refuses at once when the wait would be longer, and says how long it would be", async () => {
    const { clock, limit } = setUp();
    await limit.acquire();
    expect(await limit.acquire(1, { maxWaitMs: 9.999 })).toMatchObject({ allowed: false, retryAfterMs: 10 });
    const waiting = limit.acquire(1, { maxWaitMs: 10 });
    await clock.advanceAsync(10 * ms);
    expect(await waiting).toMatchObject({ allowed: true });
    expect(clock.pendingTimers).toBe(0);
  });

  test.each([
    ["sliding window", { rate: "2/20ms" }, 40],
    ["token bucket", { rate: "2/20ms", burst: 2 }, 30],
    ["strict pacing", { rate: "2/20ms", burst: 1 }, 40],
  ])("counts those ahead in line, exactly: %s", async (_name, options, waitMs) => {
    const { clock, limit, log, follow } = setUp(options);
    for (let i = 0; i < 4; i++) follow(`${i}`, limit.acquire());
    const tooShort = await limit.acquire(1, { maxWaitMs: waitMs - 0.001 });
    expect(tooShort).toMatchObject({ allowed: false, retryAfterMs: waitMs });
    follow("last", limit.acquire(1, { maxWaitMs: waitMs }));
    await clock.advanceAsync(200 * ms);
    expect(log.at(-1)).toBe(`last@${waitMs}`);
  });

  test("0 means now or not at all, behind those who wait", async () => {
    const { clock, limit, log, follow } = setUp();
    follow("a", limit.acquire(1, { maxWaitMs: 0 }));
    follow("b", limit.acquire());
    follow("c", limit.acquire(1, { maxWaitMs: 0 }));
    await clock.advanceAsync(50 * ms);
    expect(log).toEqual(["a@0", "c:refused@0", "b@10"]);
  });

  test("holds also when others take what was foreseen", async () => {
    const { clock, limit, log, follow } = setUp();
    await limit.acquire();
    for (const afterMs of [10, 20]) clock.setTimer(() => void limit.tryAcquire(), afterMs * ms);
    follow("head", limit.acquire());
    follow("second", limit.acquire(1, { maxWaitMs: 25 }));
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["second:refused@25", "head@30"]);
  });

  test("a refusal leaves the line as it was for those behind", async () => {
    const { clock, limit, log, follow } = setUp({ rate: "4/40ms", burst: 4 });
    await limit.acquire(4);
    follow("big", limit.acquire(4, { maxWaitMs: 40 }));
    follow("next", limit.acquire(1));
    clock.setTimer(() => void limit.tryAcquire(2), 25 * ms);
    await clock.advanceAsync(200 * ms);
    // Two were taken by somebody who did not queue, so the big one runs out of time; the next one starts then.
    expect(log).toEqual(["big:refused@40", "next@40"]);
  });
});

describe("a signal", () => {
  test("ends the wait with its reason and gives the place to the next", async () => {
    const { clock, limit, log, follow } = setUp({ rate: "3/30ms", burst: 3 });
    await limit.acquire(3);
    const giveUp = new AbortController();
    follow("big", limit.acquire(3, { signal: giveUp.signal }));
    follow("small", limit.acquire(1));
    follow("third", limit.acquire(1));
    await clock.advanceAsync(15 * ms);
    giveUp.abort(new Error("lost interest"));
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["big:lost interest@15", "small@15", "third@20"]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("that fired before consumes nothing", async () => {
    const { limit } = setUp();
    await expect(limit.acquire(1, { signal: AbortSignal.abort(new Error("too late")) })).rejects.toThrow(
      "too late",
    );
    expect(await limit.available()).toBe(1);
  });

  test("frees a place in the middle of the line", async () => {
    const { clock, limit, log, follow } = setUp({ maxWaiters: 3 });
    const giveUp = new AbortController();
    follow("a", limit.acquire());
    follow("b", limit.acquire());
    follow("c", limit.acquire(1, { signal: giveUp.signal }));
    follow("d", limit.acquire());
    giveUp.abort(new Error("gone"));
    follow("e", limit.acquire());
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["a@0", "c:gone@0", "b@10", "d@20", "e@30"]);
  });

  test("keeps no listener once the wait is over", async () => {
    const { clock, limit } = setUp();
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    const waits = [limit.acquire(1, { signal }), limit.acquire(1, { signal }), limit.acquire(1, { signal })];
    expect([added.mock.calls.length, removed.mock.calls.length]).toEqual([2, 0]);
    await clock.advanceAsync(100 * ms);
    await Promise.all(waits);
    expect(removed.mock.calls.map((call) => call[1])).toEqual(added.mock.calls.map((call) => call[1]));
  });
});

describe("a store that takes its time", () => {
  test("keeps the order, and asks one question at a time for a line", async () => {
    const { clock, limit, log, follow } = setUp({ latencyUs: 2 * ms });
    for (const name of ["a", "b", "c"]) follow(name, limit.acquire());
    await clock.advanceAsync(100 * ms);
    expect(log.map((entry) => entry.slice(0, 1))).toEqual(["a", "b", "c"]);
    expect([limit.waiters, clock.pendingTimers]).toEqual([0, 0]);
  });

  test("refuses by maxWaitMs from what is foreseen", async () => {
    const { clock, limit, log, follow } = setUp({ latencyUs: 1 * ms });
    follow("a", limit.acquire());
    follow("b", limit.acquire(1, { maxWaitMs: 5 }));
    follow("c", limit.acquire(1, { maxWaitMs: 50 }));
    await clock.advanceAsync(100 * ms);
    expect(log.map((entry) => entry.replace(/@.*/, ""))).toEqual(["a", "b:refused", "c"]);
  });

  test("one who leaves during the question spends at most what was asked for, and blocks nobody", async () => {
    const { clock, limit, log, follow } = setUp({ rate: "2/10ms", latencyUs: 2 * ms });
    const giveUp = new AbortController();
    follow("a", limit.acquire(1, { signal: giveUp.signal }));
    follow("b", limit.acquire());
    await clock.advanceAsync(1 * ms);
    giveUp.abort(new Error("gone"));
    await clock.advanceAsync(100 * ms);
    expect(log).toEqual(["a:gone@1", "b@4"]);
    expect([limit.waiters, clock.pendingTimers]).toEqual([0, 0]);
  });

  test("with a full line still hands out what the store has just admitted", async () => {
    const { clock, limit, log, follow } = setUp({ maxWaiters: 0, latencyUs: 1 * ms });
    follow("a", limit.acquire());
    await clock.advanceAsync(5 * ms);
    follow("b", limit.acquire());
    await clock.advanceAsync(5 * ms);
    expect(log).toEqual(["a@1", "b:too_many_waiters@6"]);
  });

  test("that fails fails the one who asked, not those behind", async () => {
    const clock = virtualClock(0);
    const near = memory({ clock });
    const policy = ratePolicy(parseRate("1/10ms"), { algorithm: "sliding-window" });
    let failures = 1;
    const store: LimitStore = {
      ...distantStore(near, clock, 0),
      consume: async (rule, key, cost) => {
        if (clock.nowUs() > 0 && failures-- > 0) throw new Error("connection reset");
        return near.consume(rule, key, cost);
      },
    };
    const policyOf = (): RatePolicy => policy;
    const rule = { name: "l", policy };
    const limit = new Limit({ rule, store, clock, maxWaiters: 10, policyOf, onClose: () => {} });
    const outcomes = [limit.acquire(), limit.acquire(), limit.acquire()].map((wait) =>
      wait.then(
        () => "admitted",
        (error: Error) => error.message,
      ),
    );
    await clock.advanceAsync(100 * ms);
    expect(await Promise.all(outcomes)).toEqual(["admitted", "connection reset", "admitted"]);
  });
});
