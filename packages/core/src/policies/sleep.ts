import type { Clock } from "../base/clock.ts";

/** Resolves after `delayUs` microseconds; rejects with the signal's reason as soon as it fires, and leaves no timer behind. */
export function sleep(delayUs: number, clock: Clock, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(signal!.reason);
    };
    const timer = clock.setTimer(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, delayUs);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
