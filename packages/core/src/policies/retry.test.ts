import { describe, expect, test, vi } from "vitest";
import { SluiceError } from "../base/errors.ts";
import { RateLimitExceeded } from "../limit/decision.ts";
import { virtualClock } from "../testing/virtual-clock.ts";
import { type FailedAttempt, type RetryOptions, retry } from "./retry.ts";

/** Runs a call that fails in the given ways and then succeeds, passing time as needed; tells the pauses. */
async function play(failures: readonly unknown[], options: RetryOptions = {}) {
  const clock = virtualClock();
  const pauses: number[] = [];
  const call = vi.fn(async () => {
    if (call.mock.calls.length > failures.length) return "done";
    throw failures[call.mock.calls.length - 1];
  });
  const onRetry = ({ delayMs }: FailedAttempt): void => void pauses.push(delayMs);
  const outcome = retry({ clock, random: () => 1, onRetry, ...options })
    .execute(call)
    .catch((error: unknown) => ({ error }));
  await clock.advanceAsync(3_600_000_000);
  return { outcome: await outcome, pauses, attempts: call.mock.calls.length, left: clock.pendingTimers };
}

const oops = new Error("oops");

describe("retry", () => {
  test("tries again with pauses that double up to their maximum", async () => {
    const { outcome, pauses } = await play(Array(7).fill(oops), { attempts: 8, maxMs: 1500 });
    expect(outcome).toBe("done");
    expect(pauses).toEqual([100, 200, 400, 800, 1500, 1500, 1500]);
  });

  test("has full jitter: any pause from 0 up", async () => {
    const random = vi.fn().mockReturnValueOnce(0).mockReturnValueOnce(0.5).mockReturnValueOnce(0.25);
    expect((await play([oops, oops, oops], { random })).pauses).toEqual([0, 100, 100]);
  });

  test("gives up after `attempts`, with the last error itself", async () => {
    const last = new Error("last");
    const { outcome, attempts } = await play([oops, oops, last, oops], { attempts: 3 });
    expect([outcome, attempts]).toEqual([{ error: last }, 3]);
  });

  test("waits at least as long as a denial says, with the jitter on top", async () => {
    const denial = (retryAfterMs: number, never = false): RateLimitExceeded =>
      new RateLimitExceeded({ limit: "l", key: "", cost: 1, violated: ["l"], retryAfterMs, never } as never);
    expect((await play([denial(1234)])).pauses).toEqual([1334]);
    expect((await play([denial(Infinity, true)])).attempts).toBe(1);
    expect((await play([denial(60_001)])).attempts).toBe(1);
  });

  test.each([
    ["a fetch Response on the error", { response: new Response("", { headers: { "retry-after": "7" } }) }],
    ["plain headers, as axios has them", { response: { status: 429, headers: { "retry-after": "7" } } }],
    ["seconds with a fraction", { response: { headers: { "Retry-After": "7.0" } } }],
    ["a number on the error", { retryAfterMs: 7000 }],
    [
      "the details of an open circuit",
      new SluiceError("circuit_open", "", { details: { retryAfterMs: 7000 } }),
    ],
    ["a date", { response: { headers: { "retry-after": "Thu, 01 Jan 2026 00:00:07 GMT" } } }],
  ])("heeds Retry-After in %s", async (_, error) => {
    expect((await play([error])).pauses).toEqual([7100]);
  });

  test.each([["-5"], ["soon"], ["1e3"], [""], ["NaN"]])("does not heed Retry-After: %s", async (text) => {
    expect((await play([{ response: { headers: { "retry-after": text } } }])).pauses).toEqual([100]);
  });

  test("does not wait for what a server puts years ahead", async () => {
    const { attempts } = await play([{ response: { headers: { "retry-after": "315360000" } } }]);
    expect(attempts).toBe(1);
  });

  test("begins no attempt after totalMs", async () => {
    const { pauses, attempts } = await play(Array(9).fill(oops), { attempts: 10, totalMs: 750 });
    expect([pauses, attempts]).toEqual([[100, 200, 400], 4]);
  });

  test("does not retry what is not retryable", async () => {
    expect((await play([new SluiceError("invalid_cost", "")])).attempts).toBe(1);
    expect((await play([new SluiceError("store_timeout", "")])).attempts).toBe(2);
    expect((await play([oops], { isRetryable: () => false })).attempts).toBe(1);
  });

  test("retries results that count as failed, and returns the last one", async () => {
    const clock = virtualClock();
    const call = vi.fn(async () => new Response("", { status: 503, headers: { "retry-after": "1" } }));
    const isFailedResult = (result: unknown): boolean => (result as Response).status === 503;
    const result = retry({ attempts: 3, clock, random: () => 0, isFailedResult }).execute(call);
    await clock.advanceAsync(1_999_999);
    expect(call).toHaveBeenCalledTimes(2);
    await clock.advanceAsync(1);
    expect((await result).status).toBe(503);
    expect(call).toHaveBeenCalledTimes(3);
  });

  test("ends a pause at once when the signal fires, and leaves no timer and no listener", async () => {
    const clock = virtualClock();
    const cancel = new AbortController();
    const removed = vi.spyOn(cancel.signal, "removeEventListener");
    const call = vi.fn().mockRejectedValueOnce(oops).mockRejectedValue(oops);
    const result = retry({ clock, random: () => 1 }).execute(call, cancel.signal);
    await clock.advanceAsync(100_000);
    expect(removed).toHaveBeenCalledTimes(1);
    cancel.abort("enough");
    await expect(result).rejects.toBe("enough");
    expect([call.mock.calls.length, clock.pendingTimers]).toEqual([2, 0]);
    await expect(retry({ clock }).execute(call, cancel.signal)).rejects.toBe("enough");
    expect(call).toHaveBeenCalledTimes(2);
  });

  test("hands the signal on, and does not retry what failed because of it", async () => {
    const cancel = new AbortController();
    const call = vi.fn(async ({ signal }: { signal: AbortSignal }) => {
      cancel.abort("enough");
      expect(signal.aborted).toBe(true);
      throw oops;
    });
    const onRetry = vi.fn();
    await expect(retry({ onRetry }).execute(call, cancel.signal)).rejects.toBe(oops);
    expect([call.mock.calls.length, onRetry.mock.calls.length]).toEqual([1, 0]);
  });

  test.each([
    [{ attempts: 0 }],
    [{ attempts: Infinity }],
    [{ baseMs: -1 }],
    [{ maxMs: Number.NaN }],
    [{ totalMs: "5" }],
    [{ retries: 5 }],
    [{ isRetryable: true }],
  ])("refuses %o", (options) => {
    expect(() => retry(options as never)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });
});
