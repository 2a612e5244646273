import type { Clock, Timer } from "../base/clock.ts";

/** A clock that stands still until it is told to move. */
export interface VirtualClock extends Clock {
  /** Moves time forward by `us` microseconds, running each timer that falls due at its own instant, in order. */
  advance(us: number): void;
  /**
   * Like `advance`, but lets promises settle before every timer and at the end, so that code which awaits between
   * its timers keeps pace.
   */
  advanceAsync(us: number): Promise<void>;
  /** Sets the reading forward or back without running anything, as a wall clock is set. Timers keep their delay. */
  step(us: number): void;
  /** How many timers are pending. */
  readonly pendingTimers: number;
}

interface PendingTimer {
  readonly fn: () => void;
  /** On the clock's elapsed time, which `step` does not touch. */
  readonly dueUs: number;
}

/**
 * Makes a clock for tests: time is what you say it is, and timers run when you let it pass.
 * @param startUs The first reading, in microseconds; default 2026-01-01T00:00:00Z.
 *
 * @example
 *     const clock = virtualClock();
 *     const github = limit("github", "1/s", { clock });
 *     await github.tryAcquire();
 *     clock.advance(1_000_000);
 */
export function virtualClock(startUs: number = 1_767_225_600_000_000): VirtualClock {
  return new SteppedClock(startUs);
}

class SteppedClock implements VirtualClock {
  // In the order they were set, which is the order of those due together.
  readonly #pending = new Set<PendingTimer>();
  #elapsedUs = 0;
  #readingAtZeroUs: number;

  constructor(startUs: number) {
    this.#readingAtZeroUs = startUs;
  }

  get pendingTimers(): number {
    return this.#pending.size;
  }

  nowUs(): number {
    return this.#readingAtZeroUs + this.#elapsedUs;
  }

  setTimer(fn: () => void, delayUs: number): Timer {
    const timer: PendingTimer = { fn, dueUs: this.#elapsedUs + Math.max(0, Math.ceil(delayUs)) };
    this.#pending.add(timer);
    return { cancel: () => void this.#pending.delete(timer) };
  }

  advance(us: number): void {
    const targetUs = this.#elapsedUs + us;
    for (let timer = this.#next(targetUs); timer !== undefined; timer = this.#next(targetUs))
      this.#run(timer);
    this.#elapsedUs = targetUs;
  }

  async advanceAsync(us: number): Promise<void> {
    const targetUs = this.#elapsedUs + us;
    await settled();
    for (let timer = this.#next(targetUs); timer !== undefined; timer = this.#next(targetUs)) {
      this.#run(timer);
      await settled();
    }
    this.#elapsedUs = targetUs;
  }

  step(us: number): void {
    this.#readingAtZeroUs += us;
  }

  #run(timer: PendingTimer): void {
    this.#pending.delete(timer);
    this.#elapsedUs = Math.max(this.#elapsedUs, timer.dueUs);
    timer.fn();
  }

  /** The timer due first, and of those due together the one set first. */
  #next(byUs: number): PendingTimer | undefined {
    let first: PendingTimer | undefined;
    for (const timer of this.#pending) {
      if (timer.dueUs > byUs) continue;
      if (first === undefined || timer.dueUs < first.dueUs) first = timer;
    }
    return first;
  }
}

/** Resolves when the promise callbacks that can run without time or I/O have run. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
