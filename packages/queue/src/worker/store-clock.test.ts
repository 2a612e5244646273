import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StoreClock } from "./store-clock.ts";

/** Two clocks as they are: the store's runs at its own speed and may be set; the local one is monotonic. */
class TwoClocks {
  localUs = 1_000_000_000;
  #storeUs: number;
  #speed = 1;

  constructor(offsetUs: number) {
    this.#storeUs = this.localUs + offsetUs;
  }

  pass(us: number): void {
    this.localUs += us;
    this.#storeUs += us * this.#speed;
  }

  drift(partsPerMillion: number): void {
    this.#speed = 1 + partsPerMillion / 1e6;
  }

  set(byUs: number): void {
    this.#storeUs += byUs;
  }

  get storeUs(): number {
    return this.#storeUs;
  }

  /** When, locally, the store's clock reads so, if nobody sets it. */
  localAt(storeUs: number): number {
    return this.localUs + (storeUs - this.#storeUs) / this.#speed;
  }

  /** One exchange: the request takes `upUs`, the answer `downUs`. */
  exchange(clock: StoreClock, upUs: number, downUs: number): void {
    const sentUs = this.localUs;
    this.pass(upUs);
    const storeUs = this.#storeUs;
    this.pass(downUs);
    clock.observe(sentUs, this.localUs, storeUs);
  }
}

const latency = fc.integer({ min: 1, max: 200_000 });
const sample = fc.record({
  restUs: fc.integer({ min: 0, max: 30_000_000 }),
  upUs: latency,
  downUs: latency,
  drift: fc.integer({ min: -400, max: 400 }),
});
const scenario = fc.record({
  offsetUs: fc.integer({ min: -1e12, max: 1e12 }),
  samples: fc.array(sample, { minLength: 1, maxLength: 20 }),
  aheadUs: fc.integer({ min: 0, max: 10_000_000 }),
  latenessUs: fc.integer({ min: 0, max: 50_000 }),
});

describe("the store's clock, seen from here", () => {
  test("places a start never before its time and its end never beyond what is allowed, whatever the latencies", () => {
    fc.assert(
      fc.property(scenario, ({ offsetUs, samples, aheadUs, latenessUs }) => {
        const clocks = new TwoClocks(offsetUs);
        const clock = new StoreClock();
        for (const { restUs, upUs, downUs } of samples) {
          clocks.pass(restUs);
          clocks.exchange(clock, upUs, downUs);
        }
        const startUs = clocks.storeUs + aheadUs;
        const span = clock.spanOf(startUs, latenessUs);
        expect(span.fromUs).toBeGreaterThanOrEqual(clocks.localAt(startUs) - 0.01);
        expect(span.untilUs).toBeLessThanOrEqual(clocks.localAt(startUs) + latenessUs + 0.01);
        expect(clock.earliest(startUs)).toBeLessThanOrEqual(clocks.localAt(startUs) + 0.01);
      }),
      { numRuns: 1000 },
    );
  });

  test("holds through clocks that drift apart by up to 400 parts per million", () => {
    fc.assert(
      fc.property(scenario, ({ offsetUs, samples, aheadUs, latenessUs }) => {
        const clocks = new TwoClocks(offsetUs);
        const clock = new StoreClock();
        for (const { restUs, upUs, downUs, drift } of samples) {
          clocks.drift(drift);
          clocks.pass(restUs);
          clocks.exchange(clock, upUs, downUs);
        }
        const startUs = clocks.storeUs + aheadUs;
        const span = clock.spanOf(startUs, latenessUs);
        // What the clocks drifted apart while the last samples were on their way is not in the span.
        const slackUs = 0.0005 * 400_000;
        expect(span.fromUs).toBeGreaterThanOrEqual(clocks.localAt(startUs) - slackUs);
        expect(span.untilUs).toBeLessThanOrEqual(clocks.localAt(startUs) + latenessUs + slackUs);
      }),
      { numRuns: 1000 },
    );
  });

  test("after the store's clock was set, one exchange leaves no error larger than its own round trip", () => {
    const stepped = fc.record({
      scenario,
      stepUs: fc.integer({ min: -1e11, max: 1e11 }),
      upUs: latency,
      downUs: latency,
    });
    fc.assert(
      fc.property(
        stepped,
        ({ scenario: { offsetUs, samples, aheadUs, latenessUs }, stepUs, upUs, downUs }) => {
          const clocks = new TwoClocks(offsetUs);
          const clock = new StoreClock();
          for (const each of samples) {
            clocks.pass(each.restUs);
            clocks.exchange(clock, each.upUs, each.downUs);
          }
          clocks.set(stepUs);
          clocks.exchange(clock, upUs, downUs);
          const startUs = clocks.storeUs + aheadUs;
          const span = clock.spanOf(startUs, latenessUs);
          expect(span.fromUs).toBeGreaterThanOrEqual(clocks.localAt(startUs) - (upUs + downUs) - 0.01);
          expect(span.untilUs).toBeLessThanOrEqual(
            clocks.localAt(startUs) + latenessUs + upUs + downUs + 0.01,
          );
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("a step that a sample contradicts is forgotten at once", () => {
    const clocks = new TwoClocks(0);
    const clock = new StoreClock();
    clocks.exchange(clock, 500, 500);
    clocks.set(-3_600_000_000);
    clocks.exchange(clock, 500, 500);
    const startUs = clocks.storeUs + 1000;
    const { fromUs, untilUs } = clock.spanOf(startUs, 0);
    expect(fromUs).toBeGreaterThanOrEqual(clocks.localAt(startUs));
    expect(fromUs).toBeLessThanOrEqual(clocks.localAt(startUs) + 1000);
    expect(untilUs).toBeLessThanOrEqual(clocks.localAt(startUs));
  });

  test("keeps the narrowest of recent samples: one quick exchange makes slow ones as good", () => {
    const clocks = new TwoClocks(123_456);
    const clock = new StoreClock();
    clocks.exchange(clock, 50, 50);
    for (let slow = 0; slow < 5; slow++) clocks.exchange(clock, 40_000, 60_000);
    const startUs = clocks.storeUs;
    // Half a second has passed since the quick one: 500 parts per million of it, and its own 100 µs.
    expect(clock.spanOf(startUs, 0).fromUs - clocks.localAt(startUs)).toBeLessThan(
      100 + 2 * 0.0005 * 600_000,
    );
  });
});
