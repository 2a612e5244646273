import { describeValue } from "./describe.ts";
import { SluiceError } from "./errors.ts";

/**
 * A rate: `limit` units per `periodUs` microseconds. Both are whole numbers, so nothing is ever rounded.
 * The period matters, not only the quotient: `10/60s` and `1/6s` admit the same in the long run, but the first
 * speaks of windows of a minute. Frozen; made by {@link parseRate} only.
 */
export interface Rate {
  /** Units per period: a whole number from 1 to 10^9. */
  readonly limit: number;
  /** The period in microseconds: a whole number from 1 000 (1 ms) to 10 years of 365 days. */
  readonly periodUs: number;
  /** The shortest way to write the rate; equal rates have equal text. */
  readonly text: string;
}

/** What a rate can be given as: speech, a pair of numbers, or a rate already parsed. */
export type RateInput = string | { readonly limit: number; readonly periodMs: number } | Rate;

/** The largest `limit` of a rate. */
export const rateLimitMax: number = 1_000_000_000;
/** The shortest period of a rate: 1 ms. */
export const periodUsMin: number = 1_000;
/** The longest period of a rate: 10 years of 365 days. */
export const periodUsMax: number = 10 * 365 * 86_400_000_000;

const unitUs: ReadonlyMap<string, number> = new Map([
  ["ms", 1_000],
  ["s", 1_000_000],
  ["m", 60_000_000],
  ["h", 3_600_000_000],
  ["d", 86_400_000_000],
]);

const grammar = /^(?<limit>\d+(?:\.\d+)?)\s*\/\s*(?<count>\d+(?:\.\d+)?)?\s*(?<unit>[a-z]+)$/i;
const inWords = 'a rate such as "10/60s", "5/s", "5000/h", "5/250ms" or {limit, periodMs}';

/** A non-negative decimal number as an exact fraction `digits / scale`, `scale` a power of ten. */
interface Decimal {
  readonly digits: bigint;
  readonly scale: bigint;
}

/**
 * Reads a rate exactly: `"10/60s"`, `"5/s"`, `"5000/h"`, `"5/250ms"`, `"7/0.7s"`, `"0.5/s"` (one per two seconds), or
 * `{limit, periodMs}`. Units: `ms`, `s`, `m` (minute), `h`, `d`. A fractional limit is made whole by lengthening
 * the period alike, which changes nothing about the rate; a fractional period must come to whole microseconds.
 * @throws `invalid_rate` when it cannot be read or is out of bounds; a number alone is refused, since a rate without a
 *   period is no rate.
 */
export function parseRate(input: RateInput): Rate {
  const { limit, period, unit } = split(input);
  const scaledPeriod = period.digits * BigInt(unit);
  if (scaledPeriod % period.scale !== 0n) {
    throw invalid(input, "a period of whole microseconds");
  }
  // limit.digits / limit.scale per period  =  (limit.digits / g) per (period · limit.scale / g)
  const g = gcd(limit.digits, limit.scale);
  const wholeLimit = limit.digits / g;
  const periodUs = (scaledPeriod / period.scale) * (limit.scale / g);

  if (wholeLimit === 0n) throw invalid(input, "a limit above 0 (to refuse everything, pause the limit)");
  if (periodUs === 0n) throw invalid(input, "a period above 0");
  if (wholeLimit > BigInt(rateLimitMax)) throw invalid(input, "a limit of at most 10^9");
  if (periodUs < BigInt(periodUsMin) || periodUs > BigInt(periodUsMax)) {
    throw invalid(
      input,
      `a period from 1 ms to 10 years${g === limit.scale ? "" : " once the limit is whole"}`,
    );
  }
  const rate = { limit: Number(wholeLimit), periodUs: Number(periodUs) };
  return Object.freeze({ ...rate, text: formatRate(rate) });
}

/** Writes a rate the way {@link parseRate} reads it: `5/s`, `5000/h`, `10/90s`, `5/250ms`, `1/1.5ms`. */
export function formatRate(rate: { readonly limit: number; readonly periodUs: number }): string {
  const { limit, periodUs } = rate;
  for (const [unit, us] of unitUs) {
    if (us === periodUs && unit !== "ms") return `${limit}/${unit}`;
  }
  return periodUs % 1_000_000 === 0 ? `${limit}/${periodUs / 1_000_000}s` : `${limit}/${periodUs / 1_000}ms`;
}

interface Parts {
  readonly limit: Decimal;
  readonly period: Decimal;
  /** Microseconds per unit of `period`. */
  readonly unit: number;
}

function split(input: RateInput): Parts {
  if (typeof input === "string") return splitText(input);
  if (typeof input !== "object" || input === null) {
    if (typeof input === "number") throw invalid(input, `${inWords}: a rate without a period is no rate`);
    throw invalid(input, inWords);
  }
  const given: { limit?: unknown; periodMs?: unknown; periodUs?: unknown } = input;
  const unit = given.periodUs === undefined ? 1_000 : 1;
  const limit = decimalOfNumber(given.limit);
  const period = decimalOfNumber(given.periodUs ?? given.periodMs);
  if (limit === undefined || period === undefined) {
    throw invalid(input, "{limit, periodMs} as two plain numbers of at least 0");
  }
  return { limit, period, unit };
}

function splitText(input: string): Parts {
  const text = input.trim();
  const found = grammar.exec(text)?.groups;
  if (found === undefined) {
    if (/^[+-]?[\d.]+(e[+-]?\d+)?$/i.test(text)) {
      throw invalid(input, `${inWords}: a rate without a period is no rate`);
    }
    throw invalid(input, inWords);
  }
  const { limit = "", count = "1", unit = "" } = found;
  const us = unitUs.get(unit.toLowerCase());
  if (us === undefined) throw invalid(input, `a unit of ${[...unitUs.keys()].join(", ")}`);
  // More digits than any rate within the bounds can have: refused before they become big integers.
  if (text.length > 64) throw invalid(input, "at most 64 characters");
  return { limit: decimal(limit), period: decimal(count), unit: us };
}

function decimalOfNumber(value: unknown): Decimal | undefined {
  if (typeof value !== "number") return undefined;
  const text = String(value);
  // Numbers that print with an exponent are far outside the bounds; NaN, the infinities and negatives fail here too.
  return /^\d+(\.\d+)?$/.test(text) ? decimal(text) : undefined;
}

function decimal(text: string): Decimal {
  const [whole = "", fraction = ""] = text.split(".");
  return { digits: BigInt(whole + fraction), scale: 10n ** BigInt(fraction.length) };
}

function gcd(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

function invalid(input: unknown, expected: string): SluiceError {
  const got = describeValue(input);
  return new SluiceError("invalid_rate", `rate: expected ${expected}, got ${got}`, {
    details: { expected, got },
  });
}
