import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Meter, type MeterRequest } from "./meter.ts";

const second = 1_000_000;

function request(over: Partial<MeterRequest> = {}): MeterRequest {
  return { dataType: "users", provider: "aws", number: 1, key: "k", ...over };
}

function usersMeter(limit = 2, periodUs = second): Meter {
  return new Meter({ users: { limit, periodUs } });
}

describe("meter", () => {
  it("agrees with a naive count over every window, refused requests included", () => {
    const gaps = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 12 })), {
      minLength: 1,
      maxLength: 60,
    });
    fc.assert(
      fc.property(
        gaps,
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 20 }),
        (steps, limit, periodUs) => {
          const meter = usersMeter(limit, periodUs);
          const times: number[] = [];
          let now = 0;
          for (const [index, step] of steps.entries()) {
            now += step;
            times.push(now);
            const verdict = meter.arrive(request({ number: index + 1, key: `k${index}` }), now);
            const naive = times.filter((time) => time > now - periodUs && time <= now).length;
            expect(verdict.inWindow).toBe(naive);
            expect(verdict.refused).toBe(naive > limit);
          }
          // The naive worst window looks at every microsecond, not only at arrivals.
          let worst = 0;
          for (let end = 0; end <= now + periodUs; end += 1) {
            worst = Math.max(worst, times.filter((time) => time > end - periodUs && time <= end).length);
          }
          expect(meter.report()[0]?.worstWindow).toBe(worst);
        },
      ),
    );
  });

  it("gives a retry-after at which the window has room and one microsecond earlier has none", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 3, maxLength: 20 }), (steps) => {
        const meter = usersMeter(2, 10);
        const times: number[] = [];
        let now = 0;
        for (const step of steps) {
          now += step;
          times.push(now);
          const { refused, retryAfterUs } = meter.arrive(request(), now);
          if (!refused) continue;
          const roomAt = (at: number): boolean => times.filter((time) => time > at - 10).length < 2;
          expect(roomAt(now + retryAfterUs)).toBe(true);
          expect(roomAt(now + retryAfterUs - 1)).toBe(false);
        }
      }),
    );
  });

  it("admits a request exactly one period after the first of a full window", () => {
    const meter = usersMeter(2);
    meter.arrive(request({ key: "a" }), 0);
    meter.arrive(request({ key: "b" }), 500_000);
    expect(meter.arrive(request({ key: "c" }), second - 1).refused).toBe(true);
    const other = usersMeter(2);
    other.arrive(request({ key: "a" }), 0);
    other.arrive(request({ key: "b" }), 500_000);
    expect(other.arrive(request({ key: "c" }), second).refused).toBe(false);
  });

  it("counts one key sent twice as a repeat, unless the first was refused", () => {
    const meter = usersMeter(1);
    meter.arrive(request({ key: "a" }), 0);
    expect(meter.arrive(request({ key: "b" }), 10)).toMatchObject({ refused: true, repeat: false });
    expect(meter.arrive(request({ key: "b" }), 2 * second)).toMatchObject({ refused: false, repeat: false });
    expect(meter.arrive(request({ key: "b" }), 4 * second)).toMatchObject({ refused: false, repeat: true });
    expect(meter.report()[0]).toMatchObject({ requests: 4, distinct: 2, refused: 1, repeats: 1 });
  });

  it("keeps the budgets of data types apart and shares one budget over providers", () => {
    const meter = new Meter({ users: { limit: 1, periodUs: 10 }, groups: { limit: 1, periodUs: 10 } });
    meter.arrive(request({ key: "a" }), 0);
    expect(meter.arrive(request({ key: "b", dataType: "groups" }), 1).refused).toBe(false);
    expect(meter.arrive(request({ key: "c", provider: "gcp" }), 2).refused).toBe(true);
  });

  it("sees order per provider: numbers count upwards, only the same request may come again", () => {
    const order = (...sent: [string, number, string][]): Record<string, boolean> | undefined => {
      const meter = usersMeter(100);
      for (const [index, [provider, number, key]] of sent.entries()) {
        meter.arrive(request({ provider, number, key }), index);
      }
      return meter.report()[0]?.orderKept;
    };
    expect(order(["aws", 1, "a"], ["gcp", 3, "b"], ["aws", 2, "c"])).toEqual({ aws: true, gcp: true });
    expect(order(["aws", 1, "a"], ["aws", 1, "a"], ["aws", 2, "b"])).toEqual({ aws: true });
    expect(order(["aws", 2, "b"], ["aws", 1, "a"])).toEqual({ aws: false });
    expect(order(["aws", 1, "a"], ["aws", 2, "b"], ["aws", 1, "a"])).toEqual({ aws: false });
  });

  it("lists a window over the limit apart when it touches a stall, and still counts it", () => {
    const meter = usersMeter(1, 100);
    meter.arrive(request({ key: "a" }), 1_000);
    meter.arrive(request({ key: "b" }), 1_050);
    meter.arrive(request({ key: "c" }), 5_000);
    meter.arrive(request({ key: "d" }), 5_050);
    const [users] = meter.report([{ fromUs: 4_000, untilUs: 4_960 }]);
    expect(users).toMatchObject({
      windowsOver: 2,
      windowsOverInStall: 1,
      worstWindow: 2,
      gapMinUs: 50,
      gapMaxUs: 3_950,
    });
  });

  it("knows nothing of the past after a reset", () => {
    const meter = usersMeter(1);
    meter.arrive(request(), 0);
    meter.reset();
    expect(meter.report()[0]).toMatchObject({ requests: 0, worstWindow: 0, gapMinUs: null });
    expect(meter.arrive(request(), 1)).toMatchObject({ refused: false, repeat: false });
  });
});
