/** When a failed task runs again. */
export interface Backoff {
  /** Wait after the first failure, in milliseconds. */
  readonly minMs: number;
  /** The longest wait, in milliseconds. */
  readonly maxMs: number;
  /** By what each further failure multiplies the wait. */
  readonly factor: number;
  /** The share of the wait that is drawn by chance: 0 none, 1 all of it. */
  readonly jitter: number;
}

/**
 * The wait before the next attempt after `failures` failures, in milliseconds: between `(1 - jitter)` and 1 times
 * `min(maxMs, minMs * factor^(failures - 1))`.
 * @param chance A number from 0 (inclusive) to 1, drawn by the caller.
 */
export function backoffMs(backoff: Backoff, failures: number, chance: number): number {
  // The power overflows to Infinity long before it could be wrong; min() brings it back.
  const full = Math.min(backoff.maxMs, backoff.minMs * backoff.factor ** (failures - 1));
  return full * (1 - backoff.jitter * chance);
}
