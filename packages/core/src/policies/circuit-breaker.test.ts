import { describe, expect, test, vi } from "vitest";
import { SluiceError } from "../base/errors.ts";
import { RateLimitExceeded } from "../limit/decision.ts";
import { virtualClock } from "../testing/virtual-clock.ts";
import { type CircuitBreakerOptions, circuitBreaker } from "./circuit-breaker.ts";

const down = new Error("down");
const fails = async (): Promise<never> => {
  throw down;
};

function scene(options: CircuitBreakerOptions = {}) {
  const clock = virtualClock();
  const breaker = circuitBreaker({ clock, random: () => 0, ...options });
  const seen: string[] = [];
  breaker.on("open", ({ retryAfterMs }) => seen.push(`open ${retryAfterMs}`));
  breaker.on("half-open", () => seen.push("half-open"));
  breaker.on("closed", () => seen.push("closed"));
  const failTimes = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) await expect(breaker.execute(fails)).rejects.toBe(down);
  };
  return { clock, breaker, seen, failTimes };
}

describe("circuit breaker", () => {
  test("opens at the fifth failure in a row, and a success in between begins the row anew", async () => {
    const { breaker, seen, failTimes } = scene();
    await failTimes(4);
    await breaker.execute(() => "fine");
    await failTimes(4);
    expect(breaker.state).toBe("closed");
    await failTimes(1);
    expect([breaker.state, ...seen]).toEqual(["open", "open 1000"]);
  });

  test("refuses without calling while it is open, and says for how long", async () => {
    const { breaker, clock, failTimes } = scene();
    await failTimes(5);
    clock.advance(400_000);
    const call = vi.fn();
    const refusal = await breaker.execute(call).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: "circuit_open", retryable: true, details: { retryAfterMs: 600 } });
    expect(call).not.toHaveBeenCalled();
    expect(breaker.retryAfterUs).toBe(600_000);
  });

  test("lets one probe through after the cool-down, and closes when it succeeds", async () => {
    const { breaker, clock, seen, failTimes } = scene();
    await failTimes(5);
    clock.advance(1_000_000);
    const answer = Promise.withResolvers<string>();
    const probe = breaker.execute(() => answer.promise);
    await expect(breaker.execute(() => "second")).rejects.toMatchObject({ code: "circuit_open" });
    answer.resolve("well");
    expect(await probe).toBe("well");
    expect([breaker.state, ...seen]).toEqual(["closed", "open 1000", "half-open", "closed"]);
    expect(breaker.retryAfterUs).toBe(0);
  });

  test("opens again at once when a probe fails, with the cool-down anew", async () => {
    const { breaker, clock, seen, failTimes } = scene();
    await failTimes(5);
    clock.advance(1_000_000);
    await failTimes(1);
    expect([breaker.state, ...seen]).toEqual(["open", "open 1000", "half-open", "open 1000"]);
    clock.advance(999_999);
    await expect(breaker.execute(() => 1)).rejects.toMatchObject({ code: "circuit_open" });
    clock.advance(1);
    expect(await breaker.execute(() => 1)).toBe(1);
  });

  test("lengthens the cool-down by at most its jitter", async () => {
    const { breaker, seen, failTimes } = scene({ random: () => 0.5, jitter: 0.4, failures: 1 });
    await failTimes(1);
    expect(seen).toEqual(["open 1200"]);
    expect(breaker.retryAfterUs).toBe(1_200_000);
  });

  test("does not heed what calls from an earlier state have to tell", async () => {
    const { breaker, clock, failTimes } = scene();
    const early = Promise.withResolvers<string>();
    const late = breaker.execute(() => early.promise);
    const latest = Promise.withResolvers<string>();
    const lateSuccess = breaker.execute(() => latest.promise);
    const lateFailure = Promise.withResolvers<string>();
    const failure = breaker.execute(() => lateFailure.promise);
    await failTimes(5);
    early.resolve("late");
    expect(await late).toBe("late");
    expect(breaker.state).toBe("open");

    clock.advance(1_000_000);
    const answer = Promise.withResolvers<number>();
    const probe = breaker.execute(() => answer.promise);
    lateFailure.reject(down);
    await expect(failure).rejects.toBe(down);
    latest.resolve("latest");
    await lateSuccess;
    expect(breaker.state).toBe("half-open");
    answer.resolve(1);
    await probe;
    expect(breaker.state).toBe("closed");
  });

  test("counts a slow call as failed when it is slow, not when it ends", async () => {
    const { breaker, clock, seen } = scene({ failures: 1, slowMs: 50 });
    const answer = Promise.withResolvers<string>();
    const slow = breaker.execute(() => answer.promise);
    clock.advance(49_999);
    expect(breaker.state).toBe("closed");
    clock.advance(1);
    expect(breaker.state).toBe("open");
    answer.resolve("in the end");
    expect(await slow).toBe("in the end");
    expect([breaker.state, seen.length, clock.pendingTimers]).toEqual(["open", 1, 0]);
  });

  test("does not count denials of a limit, nor calls that their caller cancelled", async () => {
    const { breaker, clock } = scene({ failures: 1 });
    const decision = {
      limit: "l",
      key: "",
      cost: 1,
      violated: ["l"],
      retryAfterMs: 5,
      never: false,
    } as never;
    const denial = new RateLimitExceeded(decision);
    await expect(breaker.execute(() => Promise.reject(denial))).rejects.toBe(denial);
    const cancel = new AbortController();
    const cancelled = breaker.execute(
      ({ signal }) =>
        new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
      cancel.signal,
    );
    cancel.abort("enough");
    await expect(cancelled).rejects.toBe("enough");
    expect(breaker.state).toBe("closed");

    // A cancelled probe makes room for the next one.
    await expect(breaker.execute(fails)).rejects.toBe(down);
    clock.advance(1_000_000);
    const probeCancel = new AbortController();
    const probe = breaker.execute(() => new Promise((_, reject) => setImmediate(reject)), probeCancel.signal);
    probeCancel.abort("enough");
    await expect(probe).rejects.toBeUndefined();
    expect(await breaker.execute(() => "next")).toBe("next");
  });

  test("is not blocked for ever by a probe that never ends", async () => {
    const { breaker, clock, failTimes } = scene();
    await failTimes(5);
    clock.advance(1_000_000);
    void breaker.execute(() => new Promise(() => {}));
    clock.advance(999_999);
    await expect(breaker.execute(() => 1)).rejects.toMatchObject({ code: "circuit_open" });
    clock.advance(1);
    expect(await breaker.execute(() => 1)).toBe(1);
    expect(breaker.state).toBe("closed");
  });

  test("with several probes, closes only when as many have succeeded", async () => {
    const { breaker, clock, failTimes } = scene({ probes: 2 });
    await failTimes(5);
    clock.advance(1_000_000);
    await breaker.execute(() => 1);
    expect(breaker.state).toBe("half-open");
    await breaker.execute(() => 2);
    expect(breaker.state).toBe("closed");
  });

  test("lets at most one probe through in each cool-down while what it guards stays down", async () => {
    const { breaker, clock, failTimes } = scene();
    await failTimes(5);
    let probes = 0;
    for (let ms = 0; ms < 10_000; ms += 10) {
      clock.advance(10_000);
      await breaker
        .execute(() => {
          probes++;
          throw down;
        })
        .catch(() => {});
    }
    expect(probes).toBe(10);
  });

  test.each([
    [{ failures: 0 }, /failures: expected a whole number from 1 to 10000, got 0/],
    [{ failures: 1.5 }, /failures/],
    [{ coolDownMs: Number.NaN }, /coolDownMs/],
    [{ jitter: 2 }, /jitter/],
    [{ probes: "1" }, /probes/],
    [{ slowMs: 0 }, /slowMs/],
    [{ threshold: 5 }, /unknown option "threshold"/],
  ])("refuses %o", (options, message) => {
    expect(() => circuitBreaker(options as never)).toThrow(message);
    expect(() => circuitBreaker(options as never)).toThrow(SluiceError);
  });
});
