import { describe, expect, expectTypeOf, test } from "vitest";
import { isSluiceError } from "../base/errors.ts";
import { limit } from "../declare-limit.ts";
import { memory } from "../stores/memory/memory-store.ts";
import { distantStore } from "../testing/distant-store.ts";
import { virtualClock } from "../testing/virtual-clock.ts";
import { type Decision, RateLimitExceeded } from "./decision.ts";
import type { WaitEvent } from "./events.ts";
import type { Limit } from "./limit.ts";
import type { LimitStore } from "./store.ts";

const ms = 1_000;

const codeOf = async (work: () => unknown): Promise<string> => {
  try {
    await work();
    return "none";
  } catch (error) {
    return isSluiceError(error) ? error.code : String(error);
  }
};

describe("when a limit answers", () => {
  test("at once with a store at hand, by promise with another, and `await` takes both", async () => {
    const clock = virtualClock();
    const near = limit("near", "2/s", { clock });
    const store: LimitStore = distantStore(memory({ clock }), clock, 0);
    const far = limit("far", "2/s", { store, clock });
    expectTypeOf(near.tryAcquire()).toEqualTypeOf<Decision>();
    expectTypeOf(near.for("k").available()).toEqualTypeOf<number>();
    expectTypeOf(near.reset()).toEqualTypeOf<void>();
    expectTypeOf(far.peek).returns.toEqualTypeOf<Promise<Decision>>();
    expectTypeOf(far.check).returns.toEqualTypeOf<Promise<Decision>>();
    expectTypeOf<Limit["tryAcquire"]>().returns.toEqualTypeOf<Decision | Promise<Decision>>();
    const eitherOf: readonly Limit[] = [near, far];
    for (const either of eitherOf) {
      const asked = Promise.resolve(either.check("k"));
      await clock.advanceAsync(0);
      expect((await asked).remaining).toBe(1);
    }
    expect(near.tryAcquire().allowed).toBe(true);
    expect(far.tryAcquire()).toBeInstanceOf(Promise);
    await clock.advanceAsync(0);
  });

  test("a store at hand throws what one far away rejects with", async () => {
    const clock = virtualClock();
    const near = limit("near", "2/s", { clock });
    const far = limit("far", "2/s", { store: distantStore(memory({ clock }), clock, 0), clock });
    const calls = (l: Limit): (() => unknown)[] => [
      () => l.tryAcquire(0),
      () => l.check("k", 1.5),
      () => l.check(""),
      () => l.check("a\nb"),
      () => l.peek(-1),
      () => l.reserve(Number.NaN),
      () => l.block(Number.NaN),
      () => l.block(-1),
      () => l.tryAcquire(1, { throw: true } as never),
    ];
    expect(() => near.tryAcquire(0)).toThrow();
    expect(() => near.check("")).toThrow();
    // Also when the short way is open.
    void near.tryAcquire();
    expect(() => near.check("")).toThrow();
    expect(() => near.check(5 as never)).toThrow("key: expected");
    expect(() => near.tryAcquire("1" as never)).toThrow("cost: expected");
    for (const [i, call] of calls(far).entries()) {
      const outcome = call() as Promise<unknown>;
      expect(outcome).toBeInstanceOf(Promise);
      const code = codeOf(() => outcome);
      await clock.advanceAsync(0);
      expect(await code).toBe(await codeOf(calls(near)[i]!));
      expect(await code).toMatch(/^invalid_/);
    }
  });
});

describe("a denial that shall be thrown", () => {
  test("is a RateLimitExceeded that says when", async () => {
    const clock = virtualClock();
    const l = limit("l", "1/10s", { clock });
    expect(l.tryAcquire(1, { throws: true }).allowed).toBe(true);
    const attempts = [
      () => l.tryAcquire(1, { throws: true }),
      () => l.acquire(1, { throws: true, maxWaitMs: 5 }),
      () => l.reserve(1, { throws: true, maxWaitMs: 5 }),
    ];
    for (const attempt of attempts) {
      const error = await (async () => attempt())().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(RateLimitExceeded);
      expect(error).toMatchObject({ code: "rate_limited", retryAfterMs: 10_000, retryable: true });
    }
    void l.check("k");
    expect(() => l.check("k", 1, { throws: true })).toThrow(
      'limit "l" refused cost 1 for "k": retry after 10000 ms',
    );
    expect(l.tryAcquire(1, { throws: false }).allowed).toBe(false);
  });
});

describe("priority", () => {
  test("serves who has more first, and equals in the order of asking", async () => {
    const clock = virtualClock(0);
    const l = limit("l", "1/10ms", { clock });
    void l.tryAcquire();
    const served: string[] = [];
    const ask = (name: string, priority?: number): void => {
      const options = priority === undefined ? {} : { priority };
      void l.acquire(1, options).then(() => served.push(`${name}@${clock.nowUs() / ms}`));
    };
    ask("a");
    ask("b", -5);
    ask("c", 7);
    ask("d");
    ask("e", 7);
    ask("f", -5);
    await clock.advanceAsync(60 * ms);
    expect(served).toEqual(["c@10", "e@20", "a@30", "d@40", "b@50", "f@60"]);
  });

  test("a head that is overtaken while it sleeps goes on waiting, whatever the other asks for", async () => {
    const clock = virtualClock(0);
    const l = limit("l", "4/10ms", { burst: 4, clock });
    void l.tryAcquire(4);
    const served: string[] = [];
    void l.acquire(4).then(() => served.push(`big@${clock.nowUs() / ms}`));
    await clock.advanceAsync(1 * ms);
    void l.acquire(1, { priority: 1 }).then(() => served.push(`small@${clock.nowUs() / ms}`));
    await clock.advanceAsync(30 * ms);
    expect(served).toEqual(["small@2.5", "big@12.5"]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("a wait that is known to be too long counts those of higher priority only", async () => {
    const clock = virtualClock(0);
    const l = limit("l", "1/10ms", { clock });
    void l.tryAcquire();
    for (let i = 0; i < 5; i++) void l.acquire().catch(() => {});
    const [low, high] = await Promise.all([
      l.acquire(1, { maxWaitMs: 30 }),
      Promise.race([l.acquire(1, { maxWaitMs: 10, priority: 1 }), clock.advanceAsync(10 * ms)]),
    ]);
    expect(low).toMatchObject({ allowed: false, retryAfterMs: 60 });
    expect(high).toMatchObject({ allowed: true });
    await l.close();
  });

  test("a wait behind an answer that is still on its way is not counted twice", async () => {
    const clock = virtualClock(0);
    const l = limit("l", "1/10ms", { clock, store: distantStore(memory({ clock }), clock, 1 * ms) });
    const waits = [l.acquire(), l.acquire(1, { maxWaitMs: 15 })];
    await clock.advanceAsync(30 * ms);
    expect((await Promise.all(waits)).map(({ allowed }) => allowed)).toEqual([true, true]);
  });

  test.each([[101], [-101], [0.5], ["1"]])("refuses %j", async (priority) => {
    const l = limit("l", "1/s", { clock: virtualClock() });
    expect(await codeOf(() => l.acquire(1, { priority: priority as number }))).toBe("invalid_option");
  });
});

describe("events", () => {
  test("onWait hears who begins to wait and how long it will be, and nobody who need not", async () => {
    const clock = virtualClock(0);
    const heard: WaitEvent[] = [];
    const l = limit("l", "1/10ms", { clock, onWait: (event) => heard.push(event) });
    const waits = [l.acquire(), l.acquire(), l.acquire(), l.for("k").acquire()];
    await clock.advanceAsync(0);
    expect(heard).toEqual([
      { limit: "l", key: "", cost: 1, waitMs: 10 },
      { limit: "l", key: "", cost: 1, waitMs: 20 },
    ]);
    await clock.advanceAsync(20 * ms);
    await Promise.all(waits);
    expect(heard.length).toBe(2);
  });

  test("onWait hears of a distant store's waiters once it has said no", async () => {
    const clock = virtualClock(0);
    const heard: number[] = [];
    const store = distantStore(memory({ clock }), clock, 1 * ms);
    const l = limit("l", "1/10ms", { clock, store, onWait: ({ waitMs }) => heard.push(waitMs) });
    const waits = [l.acquire(), l.acquire()];
    await clock.advanceAsync(5 * ms);
    expect(heard).toEqual([8]);
    await clock.advanceAsync(50 * ms);
    await Promise.all(waits);
  });

  test("decision hears every answer but those of peek, until it stops listening", async () => {
    const clock = virtualClock();
    const l = limit("l", "2/s", { clock });
    void l.tryAcquire();
    const heard: string[] = [];
    const stop = l.on("decision", ({ key, allowed }) => heard.push(`${key}:${allowed}`));
    void l.tryAcquire();
    void l.tryAcquire();
    void l.peek();
    void l.check("k");
    l.reserve();
    await l.for("w").acquire();
    stop();
    void l.tryAcquire();
    expect(heard).toEqual([":true", ":false", "k:true", ":false", "w:true"]);
  });
});

describe("a rate that is changed", () => {
  test("keeps what was consumed and serves those who wait by the new one", async () => {
    const clock = virtualClock(0);
    const l = limit("l", "2/10s", { clock });
    void l.tryAcquire(2);
    let servedUs = 0;
    void l.acquire().then(() => (servedUs = clock.nowUs()));
    await clock.advanceAsync(0);
    l.update("3/10s");
    await clock.advanceAsync(0);
    expect([servedUs, l.waiters, l.rate.text, l.capacity, l.available()]).toEqual([0, 0, "3/10s", 3, 0]);
    l.update("1/10s");
    expect(l.tryAcquire().allowed).toBe(false);
  });

  test("keeps algorithm and burst, and refuses a bad one without harm", async () => {
    const l = limit("l", "10/s", { burst: 3, clock: virtualClock() });
    l.update("20/s");
    expect([l.algorithm, l.capacity]).toEqual(["token-bucket", 3]);
    expect(await codeOf(() => l.update("0/s"))).toBe("invalid_rate");
    expect([l.rate.text, l.tryAcquire().remaining]).toEqual(["20/s", 2]);
    await l.close();
    expect(await codeOf(() => l.update("1/s"))).toBe("closed");
  });

  test("every second for long keeps the budget (RL11)", () => {
    const clock = virtualClock();
    const l = limit("l", "10/h", { clock });
    let admitted = 0;
    for (let i = 0; i < 3_000; i++) {
      l.update(i % 2 === 0 ? "5/h" : "10/h");
      if (l.tryAcquire().allowed) admitted++;
      clock.advance(1_000_000);
    }
    expect(admitted).toBe(10);
  });
});

describe("a block", () => {
  test("holds up one key of all that share the store, also those who wait, until it is over or lifted", async () => {
    const clock = virtualClock(0);
    const store = memory({ clock });
    const [one, two] = [limit("l", "5/s", { store, clock }), limit("l", "5/s", { store, clock })];
    void one.for("k").block(30);
    expect(two.for("k").peek()).toMatchObject({ allowed: false, remaining: 0, retryAfterMs: 30 });
    expect(two.check("other").allowed).toBe(true);
    let servedUs = 0;
    void two
      .for("k")
      .acquire()
      .then(() => (servedUs = clock.nowUs()));
    await clock.advanceAsync(100 * ms);
    expect(servedUs).toBe(30 * ms);
    void one.for("k").block(10_000);
    void one.for("k").block(0);
    expect(two.check("k").allowed).toBe(true);
  });

  test("of a 429 is observed", async () => {
    const clock = virtualClock();
    const l = limit("api", "100/s", { clock });
    const response = { status: 429, headers: { "retry-after": "7" } };
    expect(await l.for("acme").observe(response)).toMatchObject({ refused: true, blockForMs: 7_000 });
    expect(l.check("acme")).toMatchObject({ allowed: false, retryAfterMs: 7_000 });
    expect(l.check("globex").allowed).toBe(true);
    expect(await l.observe({ status: 200, headers: {} })).toBeUndefined();
  });
});
