import { type Rate, SluiceError } from "@sluice/core";

/** How fast starts may follow each other: one each `numerator / denominator` microseconds, after a burst. */
export interface Pace {
  readonly numerator: number;
  readonly denominator: number;
  readonly burst: number;
}

/** A rate limit as the store keeps it. */
export interface LimitRecord extends Pace {
  readonly amount: number;
  readonly periodUs: number;
  readonly guardUs: number;
}

/**
 * The guard of a rate when none is given: what jitter between a grant's start and the far end may add up to without
 * any window of the period holding more starts than the limit. 1.2 % of the period, at least 7.5 ms and at most 50 ms, but
 * never over 4 % of the period. It widens the period, so this is the share of the budget it costs.
 */
export function defaultGuardUs(periodUs: number): number {
  const share = Math.min(Math.max(0.012 * periodUs, 7_500), 50_000);
  return Math.floor(Math.min(share, 0.04 * periodUs));
}

/**
 * The share of the guard within which a worker may start late; the rest covers the way to the far end. A worker later
 * than that gives the grant back.
 */
const lateShare = 0.5;
/**
 * The least time a grant stays good, in microseconds: event loops and timers are no better. Where the guard is smaller (periods
 * below 100 ms, or a guard of 0), starts are exact on the store's ledger, but jitter at the far end is not covered.
 */
const latenessUsMin = 2_000;

/** How late after its start time a grant may still be used, in microseconds. */
export function latenessUs(guardUs: number): number {
  return Math.max(latenessUsMin, Math.floor(guardUs * lateShare));
}

/** The limit a queue's rate makes: one start each (period + guard) / amount, after a burst. */
export function limitRecord(rate: Rate, burst: number, guardUs: number): LimitRecord {
  const { numerator, denominator } = reduce(rate.periodUs + guardUs, rate.limit);
  return { amount: rate.limit, periodUs: rate.periodUs, guardUs, burst, numerator, denominator };
}

/** The pace a partition's rate makes. */
export function lanePace(rate: Rate, burst: number, guardUs: number): Pace & { readonly periodUs: number } {
  return { ...reduce(rate.periodUs + guardUs, rate.limit), burst, periodUs: rate.periodUs };
}

/** The largest product of burst and emission interval that the store reckons with: 2^62. */
const toleranceMax = 2 ** 62;

/** Refuses a burst whose tolerance the store's 64-bit integers could not hold. */
export function checkBurst(owner: string, option: string, pace: Pace, rate: Rate): void {
  if (pace.burst * pace.numerator <= toleranceMax) return;
  const most = Math.floor(toleranceMax / pace.numerator);
  throw new SluiceError(
    "invalid_option",
    `${owner}: option ${option}: expected at most ${most} with a rate of ${rate.text}, got ${pace.burst}`,
    {
      details: { owner, option, got: pace.burst },
    },
  );
}

function reduce(numerator: number, denominator: number): { numerator: number; denominator: number } {
  let [a, b] = [numerator, denominator];
  while (b > 0) [a, b] = [b, a % b];
  return { numerator: numerator / a, denominator: denominator / a };
}
