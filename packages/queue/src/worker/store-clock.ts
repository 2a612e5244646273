/** How much two clocks may drift apart, as a share: what a clock is slewed by at most while it is set, 500 parts per million. */
const driftShare = 0.0005;

/** A span on the local clock. */
export interface LocalSpan {
  readonly fromUs: number;
  readonly untilUs: number;
}

/**
 * Where the store's clock stands, as seen from here, without trusting either wall clock. An exchange sent at q and
 * answered at r, in which the store read t, proves that the offset (local minus store) lies in [q - t, r - t]. The
 * narrowest span that recent samples leave is kept; clocks drift, so it widens with age; a sample that contradicts it
 * means that a clock was set, and replaces it.
 *
 * With it a grant's start is never early: it is placed at the span's upper end. And a grant is known to be late as soon as
 * it may be late: its end is placed at the lower.
 */
export class StoreClock {
  #lowerUs = Number.NEGATIVE_INFINITY;
  #upperUs = Number.POSITIVE_INFINITY;
  #atUs = 0;

  /** Takes in one exchange; all times in microseconds, the first two on the local monotonic clock. */
  observe(sentUs: number, receivedUs: number, storeUs: number): void {
    const lower = sentUs - storeUs;
    const upper = receivedUs - storeUs;
    const drift = (receivedUs - this.#atUs) * driftShare;
    const keptLower = this.#lowerUs - drift;
    const keptUpper = this.#upperUs + drift;
    const contradicts = lower > keptUpper || upper < keptLower;
    if (contradicts) {
      this.#lowerUs = lower;
      this.#upperUs = upper;
    } else {
      this.#lowerUs = Math.max(lower, keptLower);
      this.#upperUs = Math.min(upper, keptUpper);
    }
    this.#atUs = receivedUs;
  }

  /** When a store instant is here: surely not before it has come, and surely not later than `latenessUs` after it. */
  spanOf(storeUs: number, latenessUs: number): LocalSpan {
    const fromUs = storeUs + this.#upperUs;
    // Until then the clocks go on drifting apart.
    const drift = Math.max(0, fromUs - this.#atUs) * driftShare;
    return { fromUs: fromUs + drift, untilUs: storeUs + this.#lowerUs - drift + latenessUs };
  }

  /** The earliest local time at which a store instant may have come. */
  earliest(storeUs: number): number {
    return storeUs + this.#lowerUs;
  }
}
