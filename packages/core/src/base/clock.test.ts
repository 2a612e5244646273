import { execFileSync } from "node:child_process";
import { describe, expect, test, vi } from "vitest";
import { isClock, systemClock } from "./clock.ts";

describe("the system clock", () => {
  test("reads whole microseconds since the epoch, never backwards", () => {
    const readings = Array.from({ length: 10_000 }, () => systemClock.nowUs());
    expect(readings.every(Number.isSafeInteger)).toBe(true);
    expect(readings.every((reading, i) => i === 0 || reading >= readings[i - 1]!)).toBe(true);
    expect(Math.abs(readings[0]! / 1000 - Date.now())).toBeLessThan(60_000);
  });

  test("fires timers never early", async () => {
    const earlyUs = await Promise.all(
      [0, 300, 1_000, 1_700, 5_000, 5_100].map((delayUs) => {
        const dueUs = systemClock.nowUs() + delayUs;
        return new Promise<number>((resolve) => {
          systemClock.setTimer(() => resolve(Math.max(0, dueUs - systemClock.nowUs())), delayUs);
        });
      }),
    );
    expect(earlyUs).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test("does not trust the event loop, which counts in milliseconds of its own", () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      let fired = false;
      systemClock.setTimer(() => (fired = true), 60_000_000);
      // A minute for the event loop, hardly a moment for the clock.
      vi.advanceTimersByTime(60_000);
      expect([fired, vi.getTimerCount()]).toEqual([false, 1]);
    } finally {
      vi.useRealTimers();
    }
  });

  test("a cancelled timer does not fire, nor does one beyond what the event loop can count", async () => {
    const fired: string[] = [];
    const cancelled = systemClock.setTimer(() => fired.push("cancelled"), 100);
    const distant = systemClock.setTimer(() => fired.push("distant"), 2 ** 31 * 1000);
    cancelled.cancel();
    await new Promise<void>((resolve) => systemClock.setTimer(resolve, 5_000));
    distant.cancel();
    expect(fired).toEqual([]);
  });

  test("a timer that was let go of keeps no process alive", () => {
    const program = `import { systemClock } from ${JSON.stringify(new URL("clock.ts", import.meta.url).href)};
      systemClock.setTimer(() => {}, 3_600_000_000).unref();
      systemClock.setTimer(() => process.stdout.write("kept"), 1_000);`;
    const output = execFileSync(process.execPath, ["--input-type=module", "--eval", program], {
      timeout: 30_000,
    });
    expect(output.toString()).toBe("kept");
  });

  test("is told from other things", () => {
    expect([systemClock, null, {}, Date, 5].map(isClock)).toEqual([true, false, false, false, false]);
  });
});
