import { describe, expect, test } from "vitest";
import { isSluiceError, SluiceError } from "../base/errors.ts";
import { concurrency } from "../declare-limit.ts";
import { memory } from "../stores/memory/memory-store.ts";
import { distantStore } from "../testing/distant-store.ts";
import { virtualClock } from "../testing/virtual-clock.ts";
import type { LimitStore } from "./store.ts";

const second = 1_000_000;

const codeOf = async (work: () => unknown): Promise<string> => {
  try {
    await work();
    return "none";
  } catch (error) {
    return isSluiceError(error) ? error.code : String(error);
  }
};

describe("a concurrency limit", () => {
  test("lets as many in as there are slots, and the next when one is released", async () => {
    const clock = virtualClock();
    const browsers = concurrency("browsers", 2, { clock });
    const [first, second] = [browsers.tryAcquire(), browsers.tryAcquire()];
    expect([first.allowed, second.remaining, second.fence > first.fence]).toEqual([true, 0, true]);
    const denied = browsers.tryAcquire();
    expect(denied).toMatchObject({ allowed: false, fence: 0, retryAfterMs: 30_000, violated: ["browsers"] });
    expect([denied.isHeld, denied.release()]).toEqual([false, false]);
    const waiting = browsers.acquire();
    expect([first.release(), first.release(), first.isHeld]).toEqual([true, false, false]);
    expect((await waiting).allowed).toBe(true);
    expect(browsers.available()).toBe(0);
  });

  test("gives slots back when `using` leaves its block, thrown or not", async () => {
    const browsers = concurrency("browsers", 1, { clock: virtualClock() });
    {
      using slot = await browsers.acquire();
      expect([slot.allowed, browsers.available()]).toEqual([true, 0]);
    }
    expect(browsers.available()).toBe(1);
    const failing = async (): Promise<void> => {
      await using slot = await browsers.acquire();
      throw new Error(`held ${slot.isHeld}`);
    };
    await expect(failing()).rejects.toThrow("held true");
    expect(browsers.available()).toBe(1);
  });

  test("renews a lease for as long as it is held, and no longer", async () => {
    const clock = virtualClock();
    const browsers = concurrency("browsers", 1, { clock, leaseMs: 3_000 });
    const slot = browsers.tryAcquire();
    await clock.advanceAsync(60 * second);
    expect([slot.isHeld, slot.signal.aborted, browsers.available()]).toEqual([true, false, 0]);
    void slot.release();
    expect([browsers.available(), clock.pendingTimers]).toEqual([1, 0]);
  });

  test("says so when a lease was lost, and does not take the slot from the next", async () => {
    const clock = virtualClock();
    const store = memory({ clock });
    const browsers = concurrency("browsers", 1, { clock, store, leaseMs: 3_000 });
    const slot = browsers.tryAcquire();
    void browsers.reset();
    const next = browsers.tryAcquire();
    expect(next.allowed).toBe(true);
    await clock.advanceAsync(second);
    expect([slot.isHeld, slot.signal.aborted]).toEqual([false, true]);
    expect(isSluiceError(slot.signal.reason, "lease_lost")).toBe(true);
    expect([slot.release(), next.isHeld, browsers.available()]).toEqual([false, true, 0]);
    void next.release();
  });

  test("survives a store that fails for less than a term, and gives up when it fails for longer", async () => {
    const clock = virtualClock();
    const inner = memory({ clock });
    let isDown = false;
    const store: LimitStore = {
      ...distantStore(inner, clock, 1_000),
      renew: async (rule, key, fence) => {
        if (isDown) throw new SluiceError("store_unavailable", "down");
        return inner.renew(rule, key, fence);
      },
    };
    const browsers = concurrency("browsers", 1, { clock, store, leaseMs: 3_000 });
    const asked = browsers.tryAcquire();
    await clock.advanceAsync(1_000);
    const slot = await asked;
    isDown = true;
    await clock.advanceAsync(1.5 * second);
    isDown = false;
    await clock.advanceAsync(6 * second);
    expect(slot.isHeld).toBe(true);
    isDown = true;
    await clock.advanceAsync(3 * second + 1_000);
    expect([slot.isHeld, slot.signal.aborted]).toEqual([false, true]);
    expect((slot.signal.reason as SluiceError).cause).toMatchObject({ code: "store_unavailable" });
    expect(clock.pendingTimers).toBe(0);
  });

  test("notices within 100 ms what another process gave back", async () => {
    const clock = virtualClock(0);
    const store = memory({ clock });
    const here = concurrency("browsers", 1, { clock, store });
    const there = concurrency("browsers", 1, { clock, store });
    const slot = here.tryAcquire();
    let servedUs = 0;
    void there.acquire().then(() => (servedUs = clock.nowUs()));
    await clock.advanceAsync(1_050_000);
    void slot.release();
    await clock.advanceAsync(100_000);
    expect(servedUs).toBe(1_100_000);
  });

  test("keeps slots for each key, and takes several at once", () => {
    const perTenant = concurrency("per-tenant", 3, { clock: virtualClock() });
    const acme = perTenant.for("acme").tryAcquire(3);
    expect([acme.allowed, perTenant.for("acme").available(), perTenant.for("globex").available()]).toEqual([
      true,
      0,
      3,
    ]);
    expect(perTenant.tryAcquire(4)).toMatchObject({ allowed: false, never: true });
    acme[Symbol.dispose]();
    expect(perTenant.for("acme").available()).toBe(3);
  });

  test.each<[unknown, unknown]>([
    [0, {}],
    [1.5, {}],
    ["2", {}],
    [1, { leaseMs: 9 }],
    [1, { leaseMs: Number.NaN }],
    [1, { burst: 2 }],
    [1, { store: {} }],
  ])("of %j with %j is refused", async (capacity, options) => {
    expect(await codeOf(() => concurrency("c", capacity as number, options as object))).toBe(
      "invalid_option",
    );
  });

  test("turns waiters away when it is closed, throws denials if asked to, and bounds what is asked", async () => {
    const clock = virtualClock();
    const c = concurrency("c", 1, { clock, maxWaiters: 1 });
    c.tryAcquire();
    expect(await codeOf(() => c.tryAcquire(1, { throws: true }))).toBe("rate_limited");
    expect(await codeOf(() => c.acquire(2))).toBe("cost_exceeds_capacity");
    expect(await codeOf(() => c.for(""))).toBe("invalid_key");
    const waiting = codeOf(() => c.acquire());
    expect(await codeOf(() => c.acquire())).toBe("too_many_waiters");
    expect((await c.acquire(1, { maxWaitMs: 5 }).catch(() => undefined))?.allowed).toBe(undefined);
    await c.close();
    expect(await waiting).toBe("closed");
    expect(await codeOf(() => c.tryAcquire())).toBe("closed");
  });
});
