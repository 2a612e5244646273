import { parseCount, parseHttpDate } from "./instant-text.ts";

/**
 * Reads a `Retry-After`: how long to wait from `nowMs` on, in milliseconds, 0 for a date that has passed.
 *
 * Takes whole seconds and, as several APIs send them, fractions of seconds; and an HTTP-date in any of its three forms. Of
 * numbers that a proxy has joined with commas the largest counts. Anything else (`-5`, `soon`, `1e3`) is undefined. May be
 * Infinity for more digits than a number holds: cap what you do with it.
 *
 * @param nowMs The present, in milliseconds since the epoch, on the clock of whoever wrote the date: that of the `Date` header.
 */
export function parseRetryAfter(text: string, nowMs: number): number | undefined {
  const trimmed = text.trim();
  const seconds = trimmed.split(",", 20).map((part) => parseCount(part.trim()));
  if (seconds.every((each) => each !== undefined)) return Math.max(...seconds) * 1000;
  const atMs = parseHttpDate(trimmed, nowMs);
  return atMs === undefined ? undefined : Math.max(0, atMs - nowMs);
}
