import { describe, expect, test } from "vitest";
import { isSluiceError } from "../base/errors.ts";
import { limit } from "../declare-limit.ts";
import { memory } from "../stores/memory/memory-store.ts";
import { distantStore } from "../testing/distant-store.ts";
import { virtualClock } from "../testing/virtual-clock.ts";

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "none";
  } catch (error) {
    return isSluiceError(error) ? error.code : String(error);
  }
};

describe("a reservation", () => {
  test("is settled to what was used: less gives back, more is taken", () => {
    const tokens = limit("tokens", "100/60s", { clock: virtualClock() });
    void tokens.reserve(40).settle(25);
    expect(tokens.available()).toBe(75);
    void tokens.reserve(5).settle(30);
    expect(tokens.available()).toBe(45);
    void tokens.reserve(45).settle(1_000);
    expect(tokens.available()).toBe(0);
    expect(tokens.tryAcquire().allowed).toBe(false);
  });

  test("is corrected once, by settling or by cancelling", () => {
    const tokens = limit("tokens", "100/60s", { clock: virtualClock() });
    const settled = tokens.reserve(10);
    void settled.settle(10);
    const cancelled = tokens.for("k").reserve(10);
    void cancelled.cancel();
    for (const reservation of [settled, cancelled]) {
      expect(codeOf(() => reservation.settle(0))).toBe("not_settleable");
      expect(codeOf(() => reservation.cancel())).toBe("not_settleable");
    }
    expect([tokens.available(), tokens.for("k").available()]).toEqual([90, 100]);
  });

  test("that was denied debits nothing, may be cancelled, and not be settled", () => {
    const tokens = limit("tokens", "100/60s", { clock: virtualClock() });
    void tokens.tryAcquire(95);
    const denied = tokens.reserve(10);
    expect([denied.allowed, denied.decision.violated]).toEqual([false, ["tokens"]]);
    void denied.cancel();
    expect(codeOf(() => denied.settle(1))).toBe("not_settleable");
    expect(tokens.available()).toBe(5);
  });

  test.each([[-1], [1.5], [Number.NaN], ["1"], [2 ** 53]])(
    "settled to %j is refused, and can still be settled",
    (actual) => {
      const tokens = limit("tokens", "100/60s", { clock: virtualClock() });
      const reservation = tokens.reserve(10);
      expect(codeOf(() => reservation.settle(actual as number))).toBe("invalid_cost");
      void reservation.settle(0);
      expect(tokens.available()).toBe(100);
    },
  );

  test("serves who waits from what it gives back", async () => {
    const clock = virtualClock(0);
    const tokens = limit("tokens", "10/60s", { clock });
    const reservation = tokens.reserve(10);
    let servedUs = -1;
    void tokens.acquire(4).then(() => (servedUs = clock.nowUs()));
    await clock.advanceAsync(1_000);
    void reservation.settle(6);
    await clock.advanceAsync(0);
    expect(servedUs).toBe(1_000);
  });

  test("can be waited for, and is cancelled when its block is left without a word", async () => {
    const clock = virtualClock(0);
    const store = distantStore(memory({ clock }), clock, 100);
    const tokens = limit("tokens", "10/s", { clock, store });
    const work = async (): Promise<void> => {
      await using first = await tokens.reserve(10);
      expect(first.allowed).toBe(true);
      throw new Error("failed before it used any");
    };
    const failing = work().catch((error: Error) => error.message);
    const waiting = tokens.reserve(8, { maxWaitMs: 5_000 });
    await clock.advanceAsync(10_000);
    expect(await failing).toBe("failed before it used any");
    const reservation = await waiting;
    expect(reservation.allowed).toBe(true);
    const settled = reservation.settle(3);
    await clock.advanceAsync(100);
    await settled;
    const left = tokens.available();
    await clock.advanceAsync(100);
    expect(await left).toBe(7);
  });
});
