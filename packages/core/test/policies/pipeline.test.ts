import { circuitBreaker, limit, pipeline, RateLimitExceeded, retry } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import {
  bulkhead,
  ConsecutiveBreaker,
  ConstantBackoff,
  handleAll,
  type IPolicy,
  TimeoutStrategy,
  circuitBreaker as theirCircuitBreaker,
  retry as theirRetry,
  wrap as theirWrap,
  timeout,
} from "cockatiel";
import { describe, expect, test, vi } from "vitest";

const oops = new Error("oops");

describe("pipeline", () => {
  test("runs stages from the outermost to the innermost, and hands the signal on", async () => {
    const seen: string[] = [];
    const stage = (name: string) => ({
      async execute<R>(call: (context: { signal: AbortSignal }) => R | PromiseLike<R>, signal?: AbortSignal) {
        seen.push(`> ${name}`);
        const result = await call({ signal: signal! });
        seen.push(`< ${name}`);
        return result;
      },
    });
    const { signal } = new AbortController();
    const result = await pipeline(stage("a"), pipeline(stage("b"), stage("c"))).execute((context) => {
      expect(context.signal).toBe(signal);
      return 7;
    }, signal);
    expect(result).toBe(7);
    expect(seen).toEqual(["> a", "> b", "> c", "< c", "< b", "< a"]);
  });

  test("an empty one runs the call; a call that throws at once rejects", async () => {
    expect(await pipeline().execute(({ signal }) => signal.aborted)).toBe(false);
    const rejected = pipeline().execute(() => {
      throw oops;
    });
    await expect(rejected).rejects.toBe(oops);
  });

  test("the order says what a limit counts: attempts, or calls", async () => {
    const clock = virtualClock();
    const fails = vi.fn(async () => {
      throw oops;
    });
    for (const [order, used] of [
      ["inside", 3],
      ["outside", 1],
    ] as const) {
      const l = limit(order, "10/h", { clock });
      const again = retry({ attempts: 3, baseMs: 0 });
      const stages = order === "inside" ? [again, l] : [l, again];
      await expect(pipeline(...stages).execute(fails)).rejects.toBe(oops);
      expect(await l.available()).toBe(10 - used);
    }
  });

  test("retry around a circuit breaker waits until its probe is due", async () => {
    const clock = virtualClock();
    const breaker = circuitBreaker({ clock, failures: 1, random: () => 0 });
    let isDown = true;
    const call = pipeline(retry({ clock, attempts: 4, baseMs: 0 }), breaker);
    const result = call.execute(() => {
      if (isDown) throw oops;
      return "well";
    });
    await clock.advanceAsync(0);
    isDown = false;
    await clock.advanceAsync(999_999);
    expect(breaker.state).toBe("open");
    await clock.advanceAsync(1);
    expect(await result).toBe("well");
  });

  test("a limit that is aborted while waiting rejects with the reason, and nothing is called", async () => {
    const l = limit("l", "1/h");
    await l.acquire();
    const cancel = new AbortController();
    const call = vi.fn();
    const waiting = pipeline(l).execute(call, cancel.signal);
    cancel.abort("enough");
    await expect(waiting).rejects.toBe("enough");
    expect([call.mock.calls.length, l.waiters]).toEqual([0, 0]);
  });

  test.each([[undefined], [5], [{}], [() => {}], [{ execute: 1 }]])("refuses the stage %o", (stage) => {
    expect(() => pipeline(stage as never)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });
});

describe("pipeline with cockatiel's policies", () => {
  test("theirs go around ours, and ours around theirs", async () => {
    const l = limit("l", "10/h");
    const again = theirRetry(handleAll, { maxAttempts: 2, backoff: new ConstantBackoff(0) });
    const fails = vi.fn(async () => {
      throw oops;
    });
    await expect(pipeline(again, l).execute(fails)).rejects.toBe(oops);
    expect([fails.mock.calls.length, await l.available()]).toEqual([3, 7]);
    await expect(pipeline(retry({ attempts: 2, baseMs: 0 }), again).execute(fails)).rejects.toBe(oops);
    expect(fails).toHaveBeenCalledTimes(9);
  });

  test("their timeout ends our wait for a limit by its signal", async () => {
    const l = limit("l", "1/h");
    await l.acquire();
    const call = vi.fn();
    const waiting = pipeline(timeout(20, TimeoutStrategy.Cooperative), l).execute(call);
    await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
    expect([call.mock.calls.length, l.waiters]).toEqual([0, 0]);
  });

  test("their circuit breaker and bulkhead do their part", async () => {
    const breaker = theirCircuitBreaker(handleAll, {
      halfOpenAfter: 1e6,
      breaker: new ConsecutiveBreaker(2),
    });
    const call = pipeline(breaker, bulkhead(1, 0));
    await expect(call.execute(() => Promise.reject(oops))).rejects.toBe(oops);
    await expect(call.execute(() => Promise.reject(oops))).rejects.toBe(oops);
    await expect(call.execute(() => 1)).rejects.toMatchObject({ isBrokenCircuitError: true });
  });

  test("ours fit into their wrap", async () => {
    const again = retry({ attempts: 3, baseMs: 0 });
    const ours = { ...circuitBreaker(), execute: again.execute.bind(again) } as unknown as IPolicy;
    const call = vi.fn().mockRejectedValueOnce(oops).mockResolvedValue("done");
    expect(await theirWrap(bulkhead(3), ours).execute(() => call())).toBe("done");
    expect(call).toHaveBeenCalledTimes(2);
  });

  test("retries of theirs see our denials as errors that say when", async () => {
    const l = limit("l", "1/h");
    await l.acquire();
    const refuse = async (): Promise<never> => {
      const decision = await l.tryAcquire();
      throw new RateLimitExceeded(decision);
    };
    const again = theirRetry(handleAll, { maxAttempts: 1, backoff: new ConstantBackoff(0) });
    const error = await pipeline(again)
      .execute(refuse)
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "rate_limited", decision: { allowed: false } });
  });
});
