/**
 * Notices when this process did not run for a while: a garbage collection, a busy machine, a stopped process.
 * The meter needs it to be honest about its own clock: a request that came during a stall is noted late.
 */

import type { Stall } from "./meter.ts";

const tickMs = 2;
// A meter that stalls all the time is no meter; the newest stalls say as much as all of them.
const stallsMax = 1_000;

/** Measures the stalls of the event loop against a clock of microseconds. */
export class StallWatch {
  readonly #now: () => number;
  readonly #thresholdUs: number;
  readonly #stalls: Stall[] = [];
  #lastUs: number;
  #timer: NodeJS.Timeout | undefined;

  /** `thresholdMs`: a pause longer than this is a stall. */
  constructor(nowUs: () => number, thresholdMs: number) {
    this.#now = nowUs;
    this.#thresholdUs = thresholdMs * 1000;
    this.#lastUs = nowUs();
  }

  /** Starts to watch; does not keep the process alive. */
  start(): void {
    this.#lastUs = this.#now();
    this.#timer = setInterval(() => this.tick(), tickMs);
    this.#timer.unref();
  }

  /** Stops watching. */
  stop(): void {
    clearInterval(this.#timer);
  }

  /** Notes that the process runs now. Called by the timer, and by each request so that a stall is known with it. */
  tick(): void {
    const nowUs = this.#now();
    if (nowUs - this.#lastUs > this.#thresholdUs + tickMs * 1000) {
      this.#stalls.push({ fromUs: this.#lastUs, untilUs: nowUs });
      if (this.#stalls.length > stallsMax) this.#stalls.shift();
    }
    this.#lastUs = nowUs;
  }

  /** The stalls so far, oldest first; at most the newest 1 000. */
  get stalls(): readonly Stall[] {
    return [...this.#stalls];
  }

  /** Forgets the stalls so far. */
  reset(): void {
    this.#stalls.length = 0;
  }
}
