import { systemClock } from "../base/clock.ts";
import { boolean, durationMs, optional, resolveOptions } from "../base/options.ts";
import { type HeaderSource, headerSource } from "./header-source.ts";
import { parseHttpDate } from "./instant-text.ts";
import { type ProviderReading, providers } from "./providers.ts";
import { type Quota, tightest } from "./quota.ts";
import { parseRetryAfter } from "./retry-after.ts";
import { readStandardFields } from "./standard-fields.ts";

/** How {@link readFeedback} reads. */
export interface FeedbackOptions {
  /** The present, in milliseconds since the epoch, for answers without a `Date`; default the system's. */
  readonly nowMs?: number;
  /** The longest `blockForMs`; default one hour. What a server asks beyond it is cut, and `capped` says so. */
  readonly capMs?: number;
  /**
   * Whether an answer that is no refusal but leaves a window empty says to stay away until its reset; default true. Give
   * false if the answers speak of budgets that this limit does not stand for.
   */
  readonly blockWhenEmpty?: boolean;
  /** `blockForMs` of a refusal that does not say how long; default 1 000. */
  readonly fallbackMs?: number;
  /** The parsed body, where it says more than the headers (Shopify's GraphQL, Discord); default what axios calls `data`. */
  readonly body?: unknown;
}

/**
 * What an answer of a server says about its limits. Durations are milliseconds from now; every number is finite and at
 * least 0.
 */
export interface Feedback {
  /** Who was understood: `retry-after`, `ratelimit` (the standard fields), `github`, `openai`, …, or `status` alone. */
  readonly source: string;
  /** Whether the request was refused for its rate. */
  readonly refused: boolean;
  /** How long to send nothing; absent when there is no reason to. */
  readonly blockForMs?: number;
  /** Whether the server asked for more than the cap. */
  readonly capped: boolean;
  /** The limit, remaining and reset of the quota that binds. */
  readonly limit?: number;
  readonly remaining?: number;
  readonly resetMs?: number;
  /** Every quota the answer spoke of. */
  readonly quotas: readonly Quota[];
  /** How far a refusal reaches, in the server's words: `global`, `shared`, `endpoint-rate`. */
  readonly scope?: string;
  /** Which budget it was, in the server's words. */
  readonly bucket?: string;
}

const spec = {
  nowMs: optional(durationMs({ max: Number.MAX_SAFE_INTEGER })),
  capMs: durationMs({ default: 3_600_000, max: 86_400_000 }),
  fallbackMs: durationMs({ default: 1000 }),
  blockWhenEmpty: boolean({ default: true }),
  body: { expected: "a parsed body", whenAbsent: () => undefined, read: (value: unknown) => value },
};

/**
 * Reads what an answer says about its server's limits: `Retry-After`, `RateLimit` and `RateLimit-Policy` (drafts 6 to 11),
 * the `X-RateLimit-*` of GitHub, Discord, OpenAI, Kong and everybody else, Anthropic, Stripe, Shopify, X, Azure, AWS.
 *
 * Instants are measured against the answer's own `Date`, so that the two clocks need not agree. What cannot be read is
 * ignored, never guessed. An answer that a cache has kept (`Age` above 0) says nothing.
 *
 * @param response A fetch `Response`, a node `IncomingMessage`, what axios, got and undici return or throw, or headers alone
 *   (`Headers`, `Map`, pairs, plain object), of which the `Retry-After` counts as that of a refusal.
 * @returns Undefined when it says nothing. Never throws for what a server sent.
 * @throws `invalid_option`.
 */
export function readFeedback(response: unknown, options?: FeedbackOptions): Feedback | undefined {
  const {
    nowMs = systemClock.nowUs() / 1000,
    body,
    ...judging
  } = resolveOptions("readFeedback", spec, options);
  const source = headerSource(response);
  if (source === undefined || Number(source.get("age") ?? 0) > 0) return undefined;
  const headers: HeaderSource =
    body === undefined ? source : { ...source, body, get: (name) => source.get(name) };
  const serverNowMs = parseHttpDate(headers.get("date") ?? "", nowMs) ?? nowMs;
  return feedbackOf(readAnswer(headers, serverNowMs), judging);
}

/** What was read, before it is judged. */
interface Answer extends ProviderReading {
  readonly status: number | undefined;
  readonly source: string | undefined;
  /** `Retry-After`, in milliseconds. */
  readonly retryAfterMs: number | undefined;
}

function readAnswer(headers: HeaderSource, nowMs: number): Answer {
  const retryAfter = headers.get("retry-after");
  const answer = {
    status: headers.status,
    retryAfterMs: retryAfter === undefined ? undefined : parseRetryAfter(retryAfter, nowMs),
  };
  for (const [source, read] of providers) {
    const reading = read(headers, nowMs);
    if (reading === undefined) continue;
    // The generic headers are often sent beside the standard ones, which say more.
    const standard = source === "x-ratelimit" || source === "kong" ? readStandardFields(headers, nowMs) : [];
    return standard.length > 0
      ? { ...answer, source: "ratelimit", quotas: standard }
      : { ...answer, ...reading, source };
  }
  const quotas = readStandardFields(headers, nowMs);
  return { ...answer, source: quotas.length === 0 ? undefined : "ratelimit", quotas };
}

function feedbackOf(
  answer: Answer,
  {
    capMs,
    fallbackMs,
    blockWhenEmpty,
  }: Required<Pick<FeedbackOptions, "capMs" | "fallbackMs" | "blockWhenEmpty">>,
): Feedback | undefined {
  const refused = isRefusal(answer);
  const wantedMs = refused ? refusalMs(answer, fallbackMs) : blockWhenEmpty ? emptyMs(answer) : undefined;
  const source =
    answer.source ?? (refused ? (answer.retryAfterMs === undefined ? "status" : "retry-after") : undefined);
  if (source === undefined) return undefined;
  const { limit, remaining, resetMs } = tightest(answer.quotas) ?? {};
  return {
    source,
    refused,
    capped: wantedMs !== undefined && wantedMs > capMs,
    ...(wantedMs === undefined ? {} : { blockForMs: Math.min(wantedMs, capMs) }),
    ...(limit === undefined ? {} : { limit }),
    ...(remaining === undefined ? {} : { remaining }),
    ...(resetMs === undefined ? {} : { resetMs }),
    quotas: answer.quotas,
    ...(answer.scope === undefined ? {} : { scope: answer.scope }),
    ...(answer.bucket === undefined ? {} : { bucket: answer.bucket }),
  };
}

/**
 * Refused for the rate: 429, and 420 and 430, which X and Shopify once made up; 503 and 529 (overloaded) if they say for how
 * long; and 403, with which GitHub answers, if it does or if nothing remains.
 */
function isRefusal({ status, refused, retryAfterMs, retryMs, quotas }: Answer): boolean {
  if (refused === true || status === 429 || status === 420 || status === 430) return true;
  const saysHowLong = retryAfterMs !== undefined || retryMs !== undefined;
  if (status === undefined || status === 503 || status === 529) return saysHowLong;
  return status === 403 && (saysHowLong || quotas.some(({ remaining }) => remaining === 0));
}

function refusalMs({ retryMs, retryAfterMs, quotas }: Answer, fallbackMs: number): number {
  if (retryMs !== undefined) return retryMs;
  if (retryAfterMs !== undefined) return retryAfterMs;
  const empty = quotas.filter(({ remaining }) => remaining === 0);
  const [only, ...more] = quotas.filter(({ remaining }) => remaining === undefined);
  const known = longestReset(empty.length > 0 || only === undefined || more.length > 0 ? empty : [only]);
  return known ?? fallbackMs;
}

/** An answer that was no refusal, and left a window empty: the next request would be refused. */
function emptyMs({ quotas, isBucket }: Answer): number | undefined {
  if (isBucket === true) return undefined;
  return longestReset(quotas.filter(({ remaining }) => remaining === 0));
}

function longestReset(quotas: readonly Quota[]): number | undefined {
  const resets = quotas.flatMap(({ resetMs }) => (resetMs === undefined || resetMs === 0 ? [] : [resetMs]));
  return resets.length === 0 ? undefined : Math.max(...resets);
}
