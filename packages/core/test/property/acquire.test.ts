import { type Decision, limit } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Admission, fullestWindow, runs } from "./histories.ts";

/** A call of `acquire`, or of `tryAcquire` by somebody who does not queue. */
interface Call {
  readonly afterMs: number;
  readonly cost: number;
  readonly queues: boolean;
  readonly maxWaitMs: number | undefined;
  readonly abortAfterMs: number | undefined;
}

const callsUpTo = (capacity: number): fc.Arbitrary<readonly Call[]> =>
  fc.array(
    fc.record({
      afterMs: fc.oneof(fc.constant(0), fc.nat(30)),
      cost: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: capacity })),
      queues: fc.boolean(),
      maxWaitMs: fc.oneof(fc.constant(undefined), fc.nat(60)),
      abortAfterMs: fc.oneof(
        { weight: 3, arbitrary: fc.constant(undefined) },
        { weight: 1, arbitrary: fc.nat(40) },
      ),
    }),
    { minLength: 1, maxLength: 25 },
  );

const scenes = fc
  .record({
    capacity: fc.integer({ min: 1, max: 5 }),
    algorithm: fc.constantFrom("sliding-window" as const, "token-bucket" as const, "fixed-window" as const),
  })
  .chain(({ capacity, algorithm }) =>
    callsUpTo(capacity).map((calls) => ({ rate: { limit: capacity, periodMs: 20 }, algorithm, calls })),
  );

describe("acquire, in any mix of waiting, trying, giving up and running out of patience", () => {
  test("admits in the order of asking, within the bound, within maxWaitMs, and leaves nothing behind", async () => {
    const property = fc.asyncProperty(scenes, async ({ rate, algorithm, calls }) => {
      const clock = virtualClock();
      const startUs = clock.nowUs();
      const l = limit("l", rate, { algorithm, clock });
      const admissions: Admission[] = [];
      const served: number[] = [];
      const waits: Promise<void>[] = [];
      for (const [i, { afterMs, cost, queues, maxWaitMs, abortAfterMs }] of calls.entries()) {
        await clock.advanceAsync(afterMs * 1000);
        const askedUs = clock.nowUs();
        const giveUp = new AbortController();
        if (queues && abortAfterMs !== undefined)
          clock.setTimer(() => giveUp.abort("gave up"), abortAfterMs * 1000);
        const options = { signal: giveUp.signal, ...(maxWaitMs === undefined ? {} : { maxWaitMs }) };
        const note = ({ allowed }: Decision): void => {
          const waitedUs = clock.nowUs() - askedUs;
          if (maxWaitMs !== undefined && queues) expect(waitedUs).toBeLessThanOrEqual(maxWaitMs * 1000);
          if (!allowed) return;
          admissions.push({ atUs: clock.nowUs(), cost });
          if (queues) served.push(i);
        };
        const call = queues ? l.acquire(cost, options) : Promise.resolve(l.tryAcquire(cost));
        waits.push(call.then(note, (reason: unknown) => expect(reason).toBe("gave up")));
      }
      await clock.advanceAsync(10_000_000);
      await Promise.all(waits);

      const allowance = algorithm === "sliding-window" ? rate.limit : 2 * rate.limit;
      expect(fullestWindow(admissions, rate.periodMs * 1000)).toBeLessThanOrEqual(allowance);
      expect(served).toEqual(served.toSorted((a, b) => a - b));
      expect([l.waiters, clock.pendingTimers]).toEqual([0, 0]);
      expect(clock.nowUs()).toBeGreaterThan(startUs);
    });
    await fc.assert(property, { numRuns: Math.ceil(runs / 10) });
  });
});
