import {
  cachedDenials,
  concurrency,
  concurrencyPolicy,
  type FailMode,
  type GuardOptions,
  guarded,
  type LimitRule,
  leased,
  limit,
  memory,
  parseRate,
  type RateAlgorithm,
  ratePolicy,
  SluiceError,
} from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Fate, farStore, refused } from "./far-store.ts";

function ruleOf(rate: string, algorithm: RateAlgorithm = "sliding-window"): LimitRule {
  return Object.freeze({ name: "l", policy: ratePolicy(parseRate(rate), { algorithm }) });
}

function scene(
  options: Omit<GuardOptions, "clock"> = {},
  latency: { thereUs?: number; backUs?: number } = {},
) {
  const clock = virtualClock();
  const near = memory({ clock });
  const control = { fate: "arrive" as Fate, thereUs: latency.thereUs ?? 0, backUs: latency.backUs ?? 0 };
  const far = farStore(near, clock, {
    thereUs: () => control.thereUs,
    backUs: () => control.backUs,
    fate: () => control.fate,
  });
  const store = guarded(far, { clock, random: () => 0, ...options });
  const events: string[] = [];
  store.on("failure", ({ operation, error }) =>
    events.push(`${operation} ${(error as { code: string }).code}`),
  );
  store.on("fallback", ({ key, mode }) => events.push(`${mode} ${key}`));
  for (const name of ["open", "half-open", "closed"] as const)
    store.breaker.on(name, () => events.push(name));
  return { clock, near, far, store, control, events };
}

describe("guarded, while the store is well", () => {
  test("hands answers through unchanged, denials too, and counts a denial as a success", async () => {
    const { store, near, events } = scene({ breaker: { failures: 1 } });
    const rule = ruleOf("2/h");
    for (let i = 0; i < 50; i++) {
      const peek = near.peek(rule, "k", 1);
      const verdict = await store.consume(rule, "k", 1);
      expect([verdict.allowed, verdict.retryAfterUs, verdict.mode]).toEqual([
        peek.allowed,
        peek.retryAfterUs,
        undefined,
      ]);
    }
    expect([store.breaker.state, events]).toEqual(["closed", []]);
  });

  test("answers at once when the store does", () => {
    const clock = virtualClock();
    const store = guarded(memory({ clock }), { clock });
    expect(store.consume(ruleOf("1/h"), "k", 1)).toMatchObject({ allowed: true, remaining: 0 });
    expect(store.peek(ruleOf("1/h"), "k", 1)).toMatchObject({ allowed: false });
    expect(clock.pendingTimers).toBe(0);
  });

  test.each([
    ["closed", new SluiceError("closed", "shut")],
    ["too_many_keys", new SluiceError("too_many_keys", "full")],
    ["invalid_cost", new SluiceError("invalid_cost", "-1")],
  ])("hands an error through that is not the store's: %s", async (code, error) => {
    const clock = virtualClock();
    const near = memory({ clock });
    const broken = Object.assign(Object.create(near) as typeof near, {
      consume: () => Promise.reject(error),
    });
    const store = guarded(broken, { clock, breaker: { failures: 1 } });
    await expect(store.consume(ruleOf("1/h"), "k", 1)).rejects.toMatchObject({ code });
    expect(store.breaker.state).toBe("closed");
  });
});

describe.each<FailMode>(["local", "open", "closed"])("guarded with failMode %s", (failMode) => {
  const expected = failMode !== "closed";

  test("decides without the store when it refuses, and says so", async () => {
    const { store, control, events } = scene({ failMode });
    control.fate = "refuse";
    const decision = await limit("l", "5/h", { store }).for("k").tryAcquire();
    expect([decision.allowed, decision.mode]).toEqual([expected, failMode]);
    expect(events).toEqual(["consume ECONNREFUSED", `${failMode} k`]);
  });

  test("decides at the deadline when the store does not answer", async () => {
    const { clock, store, control, events } = scene({ failMode });
    control.fate = "lose";
    let answered: unknown;
    void Promise.resolve(store.consume(ruleOf("5/h"), "k", 1)).then((verdict) => {
      answered = verdict;
    });
    await clock.advanceAsync(74_999);
    expect(answered).toBeUndefined();
    await clock.advanceAsync(1);
    expect(answered).toMatchObject({ allowed: expected, mode: failMode });
    expect(events).toEqual(["consume store_timeout", `${failMode} k`]);
  });

  test("after five failures asks no more: every decision comes at once, until a probe succeeds", async () => {
    const { clock, store, control, far, events } = scene({ failMode });
    const rule = ruleOf("1000/h");
    control.fate = "lose";
    const first = Array.from({ length: 5 }, () => store.consume(rule, "k", 1));
    await clock.advanceAsync(75_000);
    await Promise.all(first);
    expect(store.breaker.state).toBe("open");
    const asked = far.asked.length;
    for (let i = 0; i < 100; i++)
      expect(store.consume(rule, "k", 1)).toMatchObject({ allowed: expected, mode: failMode });
    expect(far.asked.length).toBe(asked);

    control.fate = "arrive";
    clock.advance(1_000_000);
    expect((await store.consume(rule, "k", 1)).mode).toBeUndefined();
    expect([store.breaker.state, far.asked.length]).toEqual(["closed", asked + 1]);
    expect(events.filter((event) => !event.includes(" "))).toEqual(["open", "half-open", "closed"]);
  });

  test("peek and groups are answered too, in the same mode", async () => {
    const { store, control } = scene({ failMode });
    control.fate = "refuse";
    const rule = ruleOf("2/h");
    expect(await store.peek(rule, "k", 1)).toMatchObject({ allowed: expected, mode: failMode, granted: 0 });
    const draws = [
      { rule, key: "a", cost: 1 },
      { rule, key: "b", cost: 1 },
    ];
    const verdicts = await store.consumeAll(draws);
    expect(verdicts.map(({ allowed, mode }) => [allowed, mode])).toEqual(Array(2).fill([expected, failMode]));
    expect(await store.consumeUpTo(rule, "c", 2)).toMatchObject({
      granted: expected ? 2 : 0,
      mode: failMode,
    });
  });

  test("a cost above the capacity is never admitted, with the store or without", async () => {
    const { store, control } = scene({ failMode });
    control.fate = "refuse";
    const verdict = await store.consume(ruleOf("2/h"), "k", 3);
    expect([verdict.allowed, verdict.never, verdict.retryAfterUs]).toEqual([false, true, Infinity]);
    const draws = [1, 3].map((cost) => ({ rule: ruleOf("2/h"), key: `k${cost}`, cost }));
    const group = await store.consumeAll(draws);
    expect(group.map(({ granted, never }) => [granted, never])).toEqual([
      [0, false],
      [0, true],
    ]);
    expect((await store.consumeUpTo(ruleOf("2/h"), "k", 1000)).granted).toBe(expected ? 2 : 0);
  });

  test("what cannot be answered without the store fails, with the store's code, and is no denial", async () => {
    const { store, control, clock } = scene({ failMode });
    const rule = ruleOf("2/h");
    const { atUs } = await store.consume(rule, "k", 1);
    control.fate = "refuse";
    const unavailable = { code: "store_unavailable", family: "store", cause: refused };
    await expect(store.settle(rule, "k", { atUs, cost: 1 }, 0)).rejects.toMatchObject(unavailable);
    await expect(store.reset(rule, "k")).rejects.toMatchObject(unavailable);
    await expect(store.block(rule, "k", 5)).rejects.toMatchObject(unavailable);
    control.fate = "lose";
    const late = [store.renew(rule, "k", 5), store.release(rule, "k", 5)].map((answer) =>
      expect(answer).rejects.toMatchObject({ code: "store_timeout" }),
    );
    await clock.advanceAsync(75_000);
    await Promise.all(late);
    // The circuit is open by now: at once, and it says for how long.
    const away = { code: "store_unavailable", details: { retryAfterMs: 1000 } };
    await expect(async () => store.reset(rule, "k")).rejects.toMatchObject(away);
  });
});

describe("guarded: what is admitted without the store", () => {
  const admitted = async (options: Omit<GuardOptions, "clock">, rate: string, algorithm?: RateAlgorithm) => {
    const { store, control } = scene(options);
    control.fate = "refuse";
    let count = 0;
    for (let i = 0; i < 500; i++) if ((await store.consume(ruleOf(rate, algorithm), "k", 1)).allowed) count++;
    return count;
  };

  test.each<RateAlgorithm>(["sliding-window", "token-bucket", "fixed-window"])(
    "local: the limit divided by the instances, rounded down, by %s",
    async (algorithm) => {
      expect(await admitted({ failMode: "local" }, "100/h", algorithm)).toBe(100);
      expect(await admitted({ failMode: "local", instances: 3 }, "100/h", algorithm)).toBe(33);
      expect(await admitted({ failMode: "local", instances: 1000 }, "100/h", algorithm)).toBe(1);
    },
  );

  test("open: the ceiling, and no more", async () => {
    expect(await admitted({ failMode: "open", ceiling: 3 }, "10/h")).toBe(30);
    expect(await admitted({ failMode: "open" }, "10/h")).toBe(100);
  });

  test("local: a share that rounds to nothing is one in a longer period", async () => {
    const { store, control, clock } = scene({ failMode: "local", instances: 4 });
    control.fate = "refuse";
    const rule = ruleOf("2/s");
    expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
    clock.advance(1_999_999);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(false);
    clock.advance(1);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  });

  test("a slot given without the store is held, and given back, like any other", async () => {
    const { store, control, clock } = scene();
    const calls = concurrency("c", 1, { store, clock });
    control.fate = "refuse";
    const slot = await calls.tryAcquire();
    expect(slot).toMatchObject({ allowed: true, isHeld: true, mode: "local" });
    expect((await calls.tryAcquire()).allowed).toBe(false);
    expect(await slot.release()).toBe(true);
    expect((await calls.tryAcquire()).allowed).toBe(true);
    await calls.close();
  });

  test("local is warm: what the store admitted here before is counted", async () => {
    const { store, control, clock } = scene({ failMode: "local", instances: 2 });
    const rule = ruleOf("20/h");
    for (let i = 0; i < 7; i++) await store.consume(rule, "k", 1);
    control.fate = "refuse";
    let count = 0;
    for (let i = 0; i < 20; i++) if ((await store.consume(rule, "k", 1)).allowed) count++;
    expect(count).toBe(3);
    // And it does not forget when the store is back in between.
    control.fate = "arrive";
    clock.advance(2_000_000);
    await store.consume(rule, "k", 1);
    control.fate = "refuse";
    expect((await store.consume(rule, "k", 1)).allowed).toBe(false);
  });

  test("a cost above this process's share is denied until the store may be back, not for ever", async () => {
    const { store, control } = scene({ failMode: "local", instances: 10 });
    control.fate = "refuse";
    const verdict = await store.consume(ruleOf("100/h"), "k", 50);
    expect([verdict.allowed, verdict.never]).toEqual([false, false]);
    expect(verdict.retryAfterUs).toBeLessThan(2_000_000);
  });

  test("closed: nothing, and the wait is until it is worth asking again", async () => {
    const { store, control, clock } = scene({ failMode: "closed" });
    expect(await admitted({ failMode: "closed" }, "100/h")).toBe(0);
    control.fate = "refuse";
    const early = await store.consume(ruleOf("5/h"), "k", 1);
    expect(early.retryAfterUs).toBe(75_000);
    for (let i = 0; i < 4; i++) await store.consume(ruleOf("5/h"), "k", 1);
    clock.advance(400_000);
    expect(await store.consume(ruleOf("5/h"), "k", 1)).toMatchObject({ remaining: 0, retryAfterUs: 600_000 });
  });

  test("those who wait in acquire outlast an outage in closed mode, and are admitted by the store", async () => {
    const { store, control, clock } = scene({ failMode: "closed" });
    const l = limit("l", "5/s", { store, clock });
    control.fate = "refuse";
    const waiting = l.acquire();
    await clock.advanceAsync(3_000_000);
    expect(l.waiters).toBe(1);
    control.fate = "arrive";
    await clock.advanceAsync(1_300_000);
    expect(await waiting).toMatchObject({ allowed: true, mode: "normal" });
  });

  test("a block holds here even if the store could not be told, and other processes' blocks do while it answers", async () => {
    const { store, control } = scene();
    control.fate = "refuse";
    const rule = ruleOf("5/h");
    await expect(store.block(rule, "k", 60_000_000)).rejects.toMatchObject({ code: "store_unavailable" });
    expect(await store.consume(rule, "k", 1)).toMatchObject({ allowed: false, mode: "local" });
    expect(await store.consume(rule, "other", 1)).toMatchObject({ allowed: true });
  });

  test("debits made without the store are settled without it", async () => {
    const { store, control, near } = scene();
    const rule = ruleOf("5/h");
    control.fate = "refuse";
    const { atUs, mode } = await store.consume(rule, "k", 5);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(false);
    await store.settle(rule, "k", { atUs, cost: 5, mode: mode! }, 2);
    expect((await store.peek(rule, "k", 1)).remaining).toBe(3);
    expect(near.peek(rule, "k", 1).remaining).toBe(5);
  });

  test("slots of a concurrency limit: given, renewed and released without the store, told apart by a fence below 0", async () => {
    const { store, control } = scene({ instances: 2 });
    const rule = Object.freeze({ name: "c", policy: concurrencyPolicy(4, 60_000_000) });
    control.fate = "refuse";
    const [a, b] = [await store.consume(rule, "k", 1), await store.consume(rule, "k", 1)];
    expect([a.allowed, b.allowed, (await store.consume(rule, "k", 1)).allowed]).toEqual([true, true, false]);
    expect(a.fence).toBeLessThan(0);
    expect(await store.renew(rule, "k", a.fence)).toBeTypeOf("number");
    expect([await store.release(rule, "k", a.fence), await store.release(rule, "k", a.fence)]).toEqual([
      true,
      false,
    ]);
    expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  });

  test("views share the breaker, each with its own fail mode", async () => {
    const { store, control } = scene({ failMode: "local" });
    const closed = store.with({ failMode: "closed" });
    control.fate = "refuse";
    const rule = ruleOf("5/h");
    for (let i = 0; i < 5; i++) await store.consume(rule, "k", 1);
    expect([closed.breaker.state, closed.breaker === store.breaker]).toEqual(["open", true]);
    expect(closed.consume(rule, "k", 1)).toMatchObject({ allowed: false, mode: "closed" });
    expect(store.with({ failMode: "open" }).consume(rule, "k", 1)).toMatchObject({
      allowed: true,
      mode: "open",
    });
  });
});

describe("guarded: answers that come too late", () => {
  test("a debit for a request that was refused meanwhile is given back", async () => {
    const { store, near, clock } = scene({ failMode: "closed" }, { backUs: 200_000 });
    const rule = ruleOf("5/h");
    const verdict = store.consume(rule, "k", 2);
    await clock.advanceAsync(75_000);
    expect((await verdict).allowed).toBe(false);
    expect(near.peek(rule, "k", 1).remaining).toBe(3);
    await clock.advanceAsync(200_000);
    expect(near.peek(rule, "k", 1).remaining).toBe(5);
  });

  test("a debit for a request that was admitted meanwhile is kept", async () => {
    const { store, near, clock } = scene({ failMode: "local" }, { backUs: 200_000 });
    const rule = ruleOf("5/h");
    const verdict = store.consume(rule, "k", 2);
    await clock.advanceAsync(400_000);
    expect(await verdict).toMatchObject({ allowed: true, mode: "local" });
    expect(near.peek(rule, "k", 1).remaining).toBe(3);
  });

  test("a slot is released", async () => {
    const { store, near, clock } = scene({ failMode: "local" }, { backUs: 200_000 });
    const rule = Object.freeze({ name: "c", policy: concurrencyPolicy(1, 60_000_000) });
    const verdict = store.consume(rule, "k", 1);
    await clock.advanceAsync(75_000);
    expect((await verdict).fence).toBeLessThan(0);
    await clock.advanceAsync(400_000);
    expect(near.peek(rule, "k", 1).remaining).toBe(1);
  });

  test("a late success does not close the circuit, and a late failure is told once", async () => {
    const { store, clock, control, events } = scene({ breaker: { failures: 1 } }, { backUs: 100_000 });
    const verdict = store.consume(ruleOf("5/h"), "k", 1);
    await clock.advanceAsync(200_000);
    await verdict;
    expect(store.breaker.state).toBe("open");
    expect(events).toEqual(["consume store_timeout", "open", "local k"]);
    control.fate = "lose-answer";
    await clock.advanceAsync(1_000_000);
    void store.consume(ruleOf("5/h"), "k", 1);
    await clock.advanceAsync(300_000);
    expect(store.breaker.state).toBe("open");
  });
});

describe("guarded: order and options", () => {
  test("goes around everything, and nothing around it", () => {
    const store = memory();
    expect(guarded(leased(cachedDenials(store)))).toBeDefined();
    expect(() => leased(guarded(store))).toThrow("leased: cannot go around guarded");
    expect(() => cachedDenials(guarded(store))).toThrow("the order is guarded(leased(cachedDenials(store)))");
    expect(() => guarded(guarded(store).with({ failMode: "open" }))).toThrow(/each of them once/);
    expect(() => guarded(undefined as never)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });

  test.each([
    [{ failMode: "maybe" }],
    [{ deadlineMs: 0 }],
    [{ deadlineMs: Infinity }],
    [{ instances: 0 }],
    [{ instances: 1.5 }],
    [{ ceiling: 0 }],
    [{ breaker: { failures: 0 } }],
    [{ breaker: 5 }],
    [{ maxKeys: 0 }],
    [{ timeoutMs: 5 }],
  ])("refuses %o", (options) => {
    const code = { code: "invalid_option" };
    expect(() => guarded(memory(), options as never)).toThrow(expect.objectContaining(code));
  });

  test("closes the store it guards, and then refuses with closed", async () => {
    const store = guarded(memory());
    await store.close();
    await store.close();
    await expect(async () => store.consume(ruleOf("1/h"), "k", 1)).rejects.toMatchObject({ code: "closed" });
  });
});

describe("guarded, over random outages", () => {
  const minute = fc.record({
    fate: fc.constantFrom<Fate>("arrive", "arrive", "refuse", "lose", "lose-answer"),
    backUs: fc.constantFrom(0, 1_000, 74_000, 76_000, 300_000),
    calls: fc.nat(12),
    gapUs: fc.nat(120_000),
  });

  test("every decision comes by its deadline; the bound of each mode holds; legal transitions only", async () => {
    const modes = fc.constantFrom<FailMode>("open", "closed", "local");
    const property = fc.asyncProperty(
      modes,
      fc.array(minute, { maxLength: 12 }),
      async (failMode, minutes) => {
        const { clock, store, control, events } = scene({ failMode, ceiling: 2 });
        const rule = ruleOf("5/10s");
        const admitted: { atUs: number; mode: string }[] = [];
        let open = 0;
        for (const { fate, backUs, calls, gapUs } of minutes) {
          Object.assign(control, { fate, backUs });
          for (let i = 0; i < calls; i++) {
            const askedUs = clock.nowUs();
            open++;
            void Promise.resolve(store.consume(rule, "k", 1)).then(({ allowed, mode = "normal" }) => {
              open--;
              expect(clock.nowUs() - askedUs).toBeLessThanOrEqual(75_000);
              if (mode === "closed") expect(allowed).toBe(false);
              if (allowed) admitted.push({ atUs: clock.nowUs(), mode });
            });
            await clock.advanceAsync(gapUs);
          }
        }
        await clock.advanceAsync(75_000);
        expect(open).toBe(0);
        const bound = { open: 10, closed: 0, local: 5, normal: 5 };
        for (const [mode, most] of Object.entries(bound)) {
          const own = admitted.filter((each) => each.mode === mode);
          for (const { atUs } of own) {
            // An answer may have been decided up to the deadline before it is heard of.
            const span = 10_000_000 - (mode === "normal" ? 75_000 : 0);
            expect(
              own.filter((other) => other.atUs > atUs - span && other.atUs <= atUs).length,
            ).toBeLessThanOrEqual(most);
          }
        }
        const legal = { closed: "open", open: "half-open", "half-open": "open closed" } as Record<
          string,
          string
        >;
        let state = "closed";
        for (const event of events.filter((each) => !each.includes(" "))) {
          expect(legal[state]!.split(" ")).toContain(event);
          state = event;
        }
      },
    );
    await fc.assert(property, { numRuns: 600 });
  });
});
