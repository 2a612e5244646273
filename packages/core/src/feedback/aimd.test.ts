import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseRate, type Rate, type RateInput } from "../base/rate.ts";
import { virtualClock } from "../testing/virtual-clock.ts";
import { adaptive } from "./adaptive.ts";
import { type AimdPolicy, aimdRefusal, aimdStart, aimdSuccess } from "./aimd.ts";

const policy: AimdPolicy = { floor: 5, ceiling: 100, increase: 1, decrease: 0.5, holdMs: 1000 };

describe("the controller", () => {
  test("adds its increase with each whole budget of successes", () => {
    let state = aimdStart(20, policy);
    for (let i = 0; i < 21; i++) state = aimdSuccess(state, i, policy);
    expect(Math.floor(state.limit)).toBe(21);
    expect(state.limit).toBeLessThan(21.1);
  });

  test("halves once for all the refusals of a hold, and learns nothing until it ends", () => {
    let state = aimdRefusal(aimdStart(80, policy), 0, policy);
    state = aimdRefusal(aimdSuccess(state, 500, policy), 999, policy);
    expect(state.limit).toBe(40);
    expect(aimdRefusal(state, 1000, policy).limit).toBe(20);
    expect(aimdSuccess(state, 1000, policy).limit).toBe(40.025);
  });

  test("never leaves floor to ceiling, whatever happens", () => {
    const event = fc.record({ refused: fc.boolean(), gapMs: fc.nat(3000) });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1000 }), fc.array(event, { maxLength: 300 }), (start, events) => {
        let state = aimdStart(start, policy);
        let nowMs = 0;
        for (const { refused, gapMs } of events) {
          nowMs += gapMs;
          state = refused ? aimdRefusal(state, nowMs, policy) : aimdSuccess(state, nowMs, policy);
          expect(state.limit).toBeGreaterThanOrEqual(policy.floor);
          expect(state.limit).toBeLessThanOrEqual(policy.ceiling);
        }
      }),
    );
  });

  test("settles around what a server admits, and uses most of it", () => {
    // A server that admits 60 a second of whatever is sent, in steps of one second.
    let state = aimdStart(10, policy);
    let admitted = 0;
    for (let second = 0; second < 1000; second++) {
      const sent = Math.floor(state.limit);
      for (let i = 0; i < sent; i++) {
        const nowMs = second * 1000 + (i / sent) * 1000;
        state = i < 60 ? aimdSuccess(state, nowMs, policy) : aimdRefusal(state, nowMs, policy);
      }
      if (second >= 100) admitted += Math.min(sent, 60);
    }
    expect(admitted / 900).toBeGreaterThan(0.7 * 60);
    expect(state.limit).toBeLessThan(63);
  });
});

describe("an adaptive rate", () => {
  function adaptable(text: string) {
    let rate: Rate = parseRate(text);
    return {
      get rate() {
        return rate;
      },
      update(next: RateInput) {
        rate = parseRate(next);
      },
    };
  }

  test("changes the limit's rate by answers, and keeps its period", () => {
    const clock = virtualClock();
    const crm = adaptable("40/10s");
    const rate = adaptive(crm, { floor: 5, ceiling: 50, increase: 40, clock });
    rate.observe(new Response(null, { status: 429 }));
    expect([rate.current, crm.rate.text]).toEqual([20, "20/10s"]);
    rate.observe(new Response(null, { status: 429 }));
    expect(crm.rate.limit).toBe(20);
    clock.advance(10_000_000);
    rate.observe(new Response(null, { status: 200 }));
    expect(crm.rate.text).toBe("22/10s");
    for (let i = 0; i < 100; i++) rate.observe(new Response(null, { status: 204 }));
    expect(crm.rate.text).toBe("50/10s");
  });

  test("learns nothing from a server that is ill", () => {
    const crm = adaptable("10/s");
    const rate = adaptive(crm, { floor: 1, ceiling: 1000, increase: 1000 });
    rate.observe(new Response(null, { status: 500 }));
    rate.observe({ statusCode: 503, headers: {} });
    expect(rate.current).toBe(10);
    rate.observe(new Response(null, { status: 503, headers: { "retry-after": "1" } }));
    expect(rate.current).toBe(5);
  });

  test("begins between floor and ceiling, and refuses them the wrong way round", () => {
    const crm = adaptable("500/s");
    adaptive(crm, { floor: 1, ceiling: 100 });
    expect(crm.rate.limit).toBe(100);
    expect(() => adaptive(crm, { floor: 10, ceiling: 9 })).toThrow(
      /floor: expected at most the ceiling of 9, got 10/,
    );
  });
});
