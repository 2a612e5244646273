/**
 * What the headers of well-known APIs say. Each reader knows its API by a header that nobody else sends and returns what
 * it found, or undefined. The order of {@link providers} matters only where one API also sends what is generic.
 */
import { type HeaderSource, isObject } from "./header-source.ts";
import { parseCount } from "./instant-text.ts";
import { parseFirstCount, parseReset, type Quota, quotaOf } from "./quota.ts";

/** What one API said. */
export interface ProviderReading {
  readonly quotas: readonly Quota[];
  /** How long to stay away, where the API says so more exactly than in `Retry-After`; milliseconds. */
  readonly retryMs?: number | undefined;
  /** Whether the request was refused for its rate, where the status code alone does not tell. */
  readonly refused?: boolean;
  /**
   * Whether `resetMs` of the quotas is when a bucket is full again, rather than when there is more: an empty bucket is then
   * no reason to stay away until its reset.
   */
  readonly isBucket?: boolean;
  /** How far the refusal reaches, in the words of the API: `global`, `shared`, `endpoint-rate`. */
  readonly scope?: string | undefined;
  /** Which budget it was, in the words of the API. */
  readonly bucket?: string | undefined;
}

type ProviderReader = (headers: HeaderSource, nowMs: number) => ProviderReading | undefined;

/** The readers by the name that becomes the `source` of what they read. */
export const providers: readonly (readonly [name: string, read: ProviderReader])[] = [
  ["anthropic", readAnthropic],
  ["discord", readDiscord],
  ["shopify", readShopify],
  ["stripe", readStripe],
  ["hubspot", readHubSpot],
  ["twitter", readTwitter],
  ["azure", readAzure],
  ["openai", readOpenAi],
  ["aws", readAws],
  ["github", readGitHub],
  ["kong", readKong],
  ["x-ratelimit", readGeneric],
];

/** Reads a quota from three headers; `reset` in any of the forms of {@link parseReset}. */
function readTriple(
  headers: HeaderSource,
  nowMs: number,
  names: {
    readonly name?: string;
    readonly limit: string;
    readonly remaining: string;
    readonly reset: string;
  },
): Quota | undefined {
  const reset = headers.get(names.reset);
  return quotaOf({
    name: names.name,
    limit: parseFirstCount(headers.get(names.limit)),
    remaining: parseFirstCount(headers.get(names.remaining)),
    resetMs: reset === undefined ? undefined : parseReset(reset, nowMs),
    windowMs: undefined,
  });
}

function present(quotas: readonly (Quota | undefined)[]): readonly Quota[] {
  return quotas.filter((quota) => quota !== undefined);
}

function readAnthropic(headers: HeaderSource, nowMs: number): ProviderReading | undefined {
  const kinds = ["requests", "tokens", "input-tokens", "output-tokens"];
  const quotas = present(
    kinds.map((name) => {
      const prefix = `anthropic-ratelimit-${name}`;
      const names = { limit: `${prefix}-limit`, remaining: `${prefix}-remaining`, reset: `${prefix}-reset` };
      return readTriple(headers, nowMs, { name, ...names });
    }),
  );
  return quotas.length === 0 ? undefined : { quotas, isBucket: true };
}

function readDiscord(headers: HeaderSource, nowMs: number): ProviderReading | undefined {
  const bucket = headers.get("x-ratelimit-bucket");
  const isGlobal = headers.get("x-ratelimit-global")?.toLowerCase() === "true";
  const resetAfter = headers.get("x-ratelimit-reset-after");
  if (bucket === undefined && !isGlobal && resetAfter === undefined) return undefined;
  // The delta with its fraction, not the instant: it does not depend on two clocks agreeing.
  const quota = readTriple(headers, nowMs, {
    limit: "x-ratelimit-limit",
    remaining: "x-ratelimit-remaining",
    reset: resetAfter === undefined ? "x-ratelimit-reset" : "x-ratelimit-reset-after",
  });
  const body = isObject(headers.body) ? headers.body["retry_after"] : undefined;
  const retryMs = typeof body === "number" && body >= 0 ? body * 1000 : undefined;
  const scope = isGlobal ? "global" : headers.get("x-ratelimit-scope");
  return { quotas: present([quota]), retryMs, scope, bucket };
}

function readShopify(headers: HeaderSource): ProviderReading | undefined {
  const [used, limit] = (headers.get("x-shopify-shop-api-call-limit") ?? "").split("/").map(parseCount);
  const quotas =
    used === undefined || limit === undefined
      ? []
      : present([quotaOf({ ...unknown, limit, remaining: Math.max(0, limit - used) })]);
  const cost = readShopifyCost(headers.body);
  if (cost === undefined) return quotas.length === 0 ? undefined : { quotas, isBucket: true };
  return { ...cost, quotas: [...quotas, ...cost.quotas] };
}

const unknown = {
  name: undefined,
  limit: undefined,
  remaining: undefined,
  resetMs: undefined,
  windowMs: undefined,
};

/**
 * Reads the cost that Shopify's GraphQL API reports in the body of its answers, `extensions.cost`: a refusal there comes
 * with status 200. Its bucket fills by `restoreRate` points a second, so the wait for a refused query is known exactly.
 */
export function readShopifyCost(body: unknown): ProviderReading | undefined {
  const extensions = isObject(body) ? body["extensions"] : undefined;
  const cost = isObject(extensions) ? extensions["cost"] : undefined;
  const status = isObject(cost) ? cost["throttleStatus"] : undefined;
  if (!isObject(cost) || !isObject(status)) return undefined;
  const limit = finite(status["maximumAvailable"]);
  const remaining = finite(status["currentlyAvailable"]);
  const perSecond = finite(status["restoreRate"]);
  if (limit === undefined || remaining === undefined) return undefined;
  const untilMs = (points: number): number | undefined =>
    perSecond === undefined || perSecond === 0
      ? undefined
      : (Math.max(0, points - remaining) / perSecond) * 1000;
  const quota = quotaOf({ ...unknown, name: "cost", limit, remaining, resetMs: untilMs(limit) });
  const refused = isRefusedByShopify(body);
  const retryMs = refused ? untilMs(finite(cost["requestedQueryCost"]) ?? 0) : undefined;
  return { quotas: present([quota]), isBucket: true, refused, retryMs };
}

function isRefusedByShopify(body: unknown): boolean {
  const errors = isObject(body) ? body["errors"] : undefined;
  if (!Array.isArray(errors)) return false;
  return errors.some((error: unknown) => {
    const extensions = isObject(error) ? error["extensions"] : undefined;
    return isObject(extensions) && extensions["code"] === "THROTTLED";
  });
}

function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;
}

/** Stripe names what refused, and mostly not for how long. */
function readStripe(headers: HeaderSource): ProviderReading | undefined {
  const scope = headers.get("stripe-rate-limited-reason");
  return scope === undefined ? undefined : { quotas: [], scope };
}

function readHubSpot(headers: HeaderSource): ProviderReading | undefined {
  const prefix = "x-hubspot-ratelimit-";
  const quota = quotaOf({
    ...unknown,
    limit: parseFirstCount(headers.get(`${prefix}max`)),
    remaining: parseFirstCount(headers.get(`${prefix}remaining`)),
    windowMs: parseFirstCount(headers.get(`${prefix}interval-milliseconds`)),
  });
  return quota === undefined ? undefined : { quotas: [quota] };
}

function readTwitter(headers: HeaderSource, nowMs: number): ProviderReading | undefined {
  const names = {
    limit: "x-rate-limit-limit",
    remaining: "x-rate-limit-remaining",
    reset: "x-rate-limit-reset",
  };
  const quota = readTriple(headers, nowMs, names);
  return quota === undefined ? undefined : { quotas: [quota] };
}

/** Azure's services say how long in milliseconds, and count what remains without a limit or a reset beside it. */
function readAzure(headers: HeaderSource, nowMs: number): ProviderReading | undefined {
  const retryMs = parseFirstCount(headers.get("retry-after-ms") ?? headers.get("x-ms-retry-after-ms"));
  const kinds = [
    "subscription-reads",
    "subscription-writes",
    "subscription-deletes",
    "tenant-reads",
    "tenant-writes",
  ];
  const quotas = present(
    kinds.map((name) =>
      quotaOf({
        ...unknown,
        name,
        remaining: parseFirstCount(headers.get(`x-ms-ratelimit-remaining-${name}`)),
      }),
    ),
  );
  if (retryMs === undefined && quotas.length === 0) return undefined;
  return { ...(readOpenAi(headers, nowMs) ?? { quotas }), retryMs };
}

function readOpenAi(headers: HeaderSource, nowMs: number): ProviderReading | undefined {
  const kinds = ["requests", "tokens"];
  const quotas = present(
    kinds.map((name) =>
      readTriple(headers, nowMs, {
        name,
        limit: `x-ratelimit-limit-${name}`,
        remaining: `x-ratelimit-remaining-${name}`,
        reset: `x-ratelimit-reset-${name}`,
      }),
    ),
  );
  return quotas.length === 0 ? undefined : { quotas, isBucket: true };
}

const awsRefusal =
  /^(Throttl|TooManyRequests|RequestLimitExceeded|RequestThrottled|SlowDown|BandwidthLimitExceeded|LimitExceededException|ProvisionedThroughputExceeded|PriorRequestNotComplete)/;

/** AWS refuses with status 400 as well as 429 and 503, and names the error in a header. */
function readAws(headers: HeaderSource): ProviderReading | undefined {
  const type = headers
    .get("x-amzn-errortype")
    ?.split(/[:#,]/)
    .find((part) => awsRefusal.test(part));
  return type === undefined ? undefined : { quotas: [], refused: true, scope: type };
}

function readGitHub(headers: HeaderSource, nowMs: number): ProviderReading | undefined {
  const bucket = headers.get("x-ratelimit-resource");
  if (bucket === undefined && headers.get("x-github-request-id") === undefined) return undefined;
  const quota = readTriple(headers, nowMs, genericNames);
  return { quotas: present([quota]), ...(bucket === undefined ? {} : { bucket }) };
}

const kongWindowsMs = [
  ["second", 1000],
  ["minute", 60_000],
  ["hour", 3_600_000],
  ["day", 86_400_000],
] as const;

function readKong(headers: HeaderSource): ProviderReading | undefined {
  const quotas = present(
    kongWindowsMs.map(([name, windowMs]) => {
      const limit = parseFirstCount(headers.get(`x-ratelimit-limit-${name}`));
      const remaining = parseFirstCount(headers.get(`x-ratelimit-remaining-${name}`));
      return quotaOf({ name, limit, remaining, resetMs: undefined, windowMs });
    }),
  );
  return quotas.length === 0 ? undefined : { quotas };
}

const genericNames = {
  limit: "x-ratelimit-limit",
  remaining: "x-ratelimit-remaining",
  reset: "x-ratelimit-reset",
};

function readGeneric(headers: HeaderSource, nowMs: number): ProviderReading | undefined {
  const quota = readTriple(headers, nowMs, genericNames);
  return quota === undefined ? undefined : { quotas: [quota] };
}
