/**
 * What the pictures of docs/guides/algorithms.md show: real limits, on a virtual clock, under one and the same pattern of
 * arrivals. Nothing is drawn that the library did not decide.
 */
import { concurrency, type LimitOptions, limit } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";

/** One request, and the answer to it. */
export interface Dot {
  /** Milliseconds from the beginning. */
  readonly atMs: number;
  readonly allowed: boolean;
}

/** A value that holds from an instant to that of the next step. */
export interface Step {
  readonly atMs: number;
  readonly value: number;
}

/** What one picture shows. */
export interface Scene {
  readonly title: string;
  readonly lengthMs: number;
  readonly dots: readonly Dot[];
  /** The line below the dots. */
  readonly steps: readonly Step[];
  readonly stepsTitle: string;
  /** What the declaration says, and what the algorithm promises. */
  readonly limit: number;
  readonly bound: number;
}

const limitPerPeriod = 10;
const periodMs = 10_000;
const lengthMs = 40_000;

/**
 * Nobody for 8 s; then 15 requests in 1.4 s; from 10 s on another 15 in 1.4 s; from 14 s on one each 250 ms, which is
 * four times the rate.
 */
export const arrivalsMs: readonly number[] = [
  ...spaced(8_000, 100, 15),
  ...spaced(10_000, 100, 15),
  ...spaced(14_000, 250, 104),
];

function spaced(fromMs: number, everyMs: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => fromMs + i * everyMs);
}

/** The pictures by the names of their files, without ending. */
export function scenes(): Readonly<Record<string, Scene>> {
  return {
    "sliding-window": rateScene("sliding window, 10/10s", { algorithm: "sliding-window" }, limitPerPeriod),
    "strict-pacing": rateScene("token bucket, 10/10s, burst 1", { burst: 1 }, limitPerPeriod),
    "token-bucket": rateScene("token bucket, 10/10s, burst 5", { burst: 5 }, 5 + limitPerPeriod),
    "fixed-window": rateScene("fixed window, 10/10s", { algorithm: "fixed-window" }, 2 * limitPerPeriod),
    concurrency: concurrencyScene(),
  };
}

function rateScene(title: string, options: Omit<LimitOptions, "store">, bound: number): Scene {
  const clock = virtualClock();
  const shown = limit("shown", { limit: limitPerPeriod, periodMs }, { ...options, clock });
  const startUs = clock.nowUs();
  const dots = arrivalsMs.map((atMs): Dot => {
    clock.advance(startUs + atMs * 1000 - clock.nowUs());
    return { atMs, allowed: shown.tryAcquire().allowed };
  });
  return {
    title,
    lengthMs,
    dots,
    steps: windowSums(dots),
    stepsTitle: "admitted in the last 10 s",
    limit: limitPerPeriod,
    bound,
  };
}

/** How many were admitted in (t − period, t], at each t where that changes. */
export function windowSums(dots: readonly Dot[]): Step[] {
  const admitted = dots.filter(({ allowed }) => allowed).map(({ atMs }) => atMs);
  const changes = [...new Set(admitted.flatMap((atMs) => [atMs, atMs + periodMs]))].sort((a, b) => a - b);
  const sumAt = (t: number): number => admitted.filter((atMs) => atMs <= t && atMs > t - periodMs).length;
  return [{ atMs: 0, value: 0 }, ...changes.map((atMs) => ({ atMs, value: sumAt(atMs) }))];
}

const slots = 4;
const workMs = 1_500;
const leaseMs = 10_000;

/** Each holder works for 1.5 s, but the third, which dies without a word: its slot is free again when its lease has run out. */
function concurrencyScene(): Scene {
  const clock = virtualClock();
  const shown = concurrency("shown", slots, { leaseMs, clock });
  const startUs = clock.nowUs();
  const nowMs = (): number => (clock.nowUs() - startUs) / 1000;
  const steps: Step[] = [{ atMs: 0, value: 0 }];
  const note = (): void => void steps.push({ atMs: nowMs(), value: slots - shown.available() });
  let admitted = 0;
  const dots = arrivalsMs.map((atMs): Dot => {
    clock.advance(startUs + atMs * 1000 - clock.nowUs());
    note();
    const { gate } = shown;
    const verdict = gate.store.consume(gate.rule, "", 1);
    if ("then" in verdict) throw new Error("the memory store answers at once");
    admitted += verdict.allowed ? 1 : 0;
    note();
    const ends = (): void => {
      void gate.store.release(gate.rule, "", verdict.fence);
      note();
    };
    // The store is asked directly, since a slot renews its lease for as long as its process lives, and this one plays dead.
    if (verdict.allowed && admitted !== 3) clock.setTimer(ends, workMs * 1000);
    return { atMs, allowed: verdict.allowed };
  });
  return {
    title: "concurrency, 4 slots, leases of 10 s",
    lengthMs,
    dots,
    steps,
    stepsTitle: "slots held",
    limit: slots,
    bound: slots,
  };
}
