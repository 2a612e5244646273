import { parseCount, parseDuration, parseHttpDate, parseRfc3339 } from "./instant-text.ts";

/** What an answer says of one budget of its server. Every number is finite and at least 0; what was not said is absent. */
export interface Quota {
  /** What the server calls it: a policy name, `requests`, `tokens`, `minute`. */
  readonly name?: string;
  /** How much the server admits per window, or as the capacity of its bucket; a whole number. */
  readonly limit?: number;
  /** How much of it is left; a whole number. */
  readonly remaining?: number;
  /** How long until there is more, or, for buckets, until it is full; milliseconds. */
  readonly resetMs?: number;
  /** The window, in milliseconds. */
  readonly windowMs?: number;
}

/** The longest duration that is reported: 10 years of 365 days. */
const durationMsMax = 10 * 365 * 86_400_000;

/** What was read for a quota, not yet checked. */
export type RawQuota = { readonly [Field in keyof Quota]: Quota[Field] | undefined };

/** A quota of what is sane in `raw`; undefined when nothing of it but the name is. */
export function quotaOf(raw: RawQuota): Quota | undefined {
  const limit = whole(raw.limit);
  const remaining = whole(raw.remaining);
  const resetMs = duration(raw.resetMs);
  const windowMs = duration(raw.windowMs);
  if (limit === undefined && remaining === undefined && resetMs === undefined) return undefined;
  return {
    ...(raw.name === undefined ? {} : { name: raw.name }),
    ...(limit === undefined ? {} : { limit }),
    ...(remaining === undefined ? {} : { remaining }),
    ...(resetMs === undefined ? {} : { resetMs }),
    ...(windowMs === undefined ? {} : { windowMs }),
  };
}

function whole(value: number | undefined): number | undefined {
  return value === undefined || Number.isNaN(value) || value < 0
    ? undefined
    : Math.min(Math.floor(value), Number.MAX_SAFE_INTEGER);
}

function duration(value: number | undefined): number | undefined {
  return value === undefined || Number.isNaN(value) ? undefined : Math.min(Math.max(0, value), durationMsMax);
}

/**
 * Reads a reset, of which every API has its own idea: seconds to go, seconds or milliseconds since the epoch (no delta is as
 * large, no epoch as small), an RFC 3339 instant, an HTTP-date, or a duration such as `1m30.5s`.
 * @returns Milliseconds from `nowMs` on; 0 for what has passed.
 */
export function parseReset(text: string, nowMs: number): number | undefined {
  const number = parseCount(text);
  if (number === undefined) {
    const atMs = parseRfc3339(text) ?? parseHttpDate(text, nowMs);
    return atMs === undefined ? parseDuration(text) : Math.max(0, atMs - nowMs);
  }
  if (number >= 1e11) return Math.max(0, number - nowMs);
  return number >= 1e8 ? Math.max(0, number * 1000 - nowMs) : number * 1000;
}

/** Reads the first number of a header such as `100, 100;w=60`. */
export function parseFirstCount(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseCount(text.split(/[,;]/, 1)[0]!.trim());
}

/**
 * The quota that binds: an empty one before any other, the one that stays so for longest first; else the one with the
 * smallest part left.
 */
export function tightest(quotas: readonly Quota[]): Quota | undefined {
  const [first, ...others] = quotas;
  return others.reduce(
    (best, each) => (best !== undefined && binds(best) >= binds(each) ? best : each),
    first,
  );
}

/** A number that is larger the more a quota binds: up to 0 for one with something left, above for an empty one. */
function binds({ limit, remaining, resetMs = 0 }: Quota): number {
  if (remaining === undefined) return Number.NEGATIVE_INFINITY;
  if (remaining === 0) return 1 + resetMs;
  return -(remaining / Math.max(limit ?? remaining, remaining));
}
