import { describe, expect, test } from "vitest";
import { virtualClock } from "./virtual-clock.ts";

describe("the virtual clock", () => {
  test("stands still until advanced, and runs timers in order at their instants", () => {
    const clock = virtualClock(1_000);
    const ran: string[] = [];
    const note = (name: string) => () => ran.push(`${name}@${clock.nowUs()}`);
    clock.setTimer(note("c"), 30);
    clock.setTimer(note("a"), 10);
    clock.setTimer(note("b1"), 20);
    clock.setTimer(note("b2"), 20);
    clock.advance(9);
    expect([ran, clock.nowUs(), clock.pendingTimers]).toEqual([[], 1_009, 4]);
    clock.advance(11);
    expect(ran).toEqual(["a@1010", "b1@1020", "b2@1020"]);
    clock.advance(100);
    expect([ran.at(-1), clock.nowUs(), clock.pendingTimers]).toEqual(["c@1030", 1_120, 0]);
  });

  test("runs timers that timers set, and none that were cancelled", () => {
    const clock = virtualClock(0);
    const ran: number[] = [];
    const again = (): void => {
      ran.push(clock.nowUs());
      clock.setTimer(again, 10);
    };
    clock.setTimer(again, 10);
    const cancelled = clock.setTimer(() => ran.push(-1), 15);
    cancelled.cancel();
    clock.advance(35);
    expect(ran).toEqual([10, 20, 30]);
  });

  test("a step sets the reading and leaves timers alone", () => {
    const clock = virtualClock(1_000_000);
    let firedAt = 0;
    clock.setTimer(() => (firedAt = clock.nowUs()), 100);
    clock.step(-500_000);
    expect([clock.nowUs(), firedAt]).toEqual([500_000, 0]);
    clock.advance(100);
    expect(firedAt).toBe(500_100);
  });

  test("advanceAsync keeps pace with code that awaits between its timers", async () => {
    const clock = virtualClock(0);
    const at: number[] = [];
    const loop = async (): Promise<void> => {
      for (let i = 0; i < 3; i++) {
        await new Promise<void>((resolve) => void clock.setTimer(resolve, 10));
        await Promise.resolve();
        at.push(clock.nowUs());
      }
    };
    const done = loop();
    await clock.advanceAsync(100);
    await done;
    expect(at).toEqual([10, 20, 30]);
  });
});
