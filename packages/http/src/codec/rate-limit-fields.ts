/**
 * The headers that tell a client where it stands, by the draft of draft-ietf-httpapi-ratelimit-headers they follow:
 *
 *     8 to 11  RateLimit-Policy: "burst";q=20;w=1               RateLimit: "burst";r=0;t=1
 *     7        RateLimit-Policy: 20;w=1                         RateLimit: limit=20, remaining=0, reset=1
 *     6        RateLimit-Policy: 20;w=1                         RateLimit-Limit: 20  RateLimit-Remaining: 0  RateLimit-Reset: 1
 *     legacy   X-RateLimit-Limit: 20  X-RateLimit-Remaining: 0  X-RateLimit-Reset: 1785585600
 *
 * Drafts 8 to 11 speak of every limit; the others know one only and are given the one that binds. The drafts are not yet a
 * standard, and the next may rename parameters: what depends on their number is here and nowhere else.
 */
import { bytesText, integerText, stringText } from "./field-text.ts";

/** A draft by its number. */
export type HeaderDraft = 6 | 7 | 8 | 9 | 10 | 11;

/** One limit after one request, as headers speak of it. */
export interface QuotaReport {
  /** The name of the policy; printable ASCII. */
  readonly name: string;
  /** Units per window. */
  readonly limit: number;
  /** The window, in milliseconds. A window that is not made of whole seconds has no place in these fields and is left out. */
  readonly windowMs: number;
  /** What is left. */
  readonly remaining: number;
  /** How long until there is more, in milliseconds. */
  readonly resetMs: number;
  /** How long until this request would be admitted, in milliseconds: 0 when it was, Infinity when it never will be. */
  readonly retryAfterMs: number;
  /** Whose budget it is, in a form that tells nobody else. */
  readonly partition?: Uint8Array | undefined;
}

/** Which headers are written. */
export interface FieldOptions {
  /** The draft that is followed; false for none of them. */
  readonly draft: HeaderDraft | false;
  /** Also the `X-RateLimit-*` of old, their reset as seconds since the epoch or seconds to go; false for none. */
  readonly legacy: "epoch" | "delta" | false;
  /** The present, in milliseconds since the epoch; for the reset of legacy headers. */
  readonly nowMs: number;
  /** Added to every time until a refused request may come again, so that clients do not come back all at once. */
  readonly jitterMs: number;
}

/** A header: its name and its value. */
export type Header = readonly [name: string, value: string];

/** The headers for one request; with a `Retry-After` if one of the reports refuses it and waiting helps. */
export function rateLimitHeaders(reports: readonly QuotaReport[], options: FieldOptions): readonly Header[] {
  const spread = reports.map((report) => withJitter(report, options.jitterMs));
  const binding = bindingOf(spread);
  if (binding === undefined) return [];
  return [
    ...draftHeaders(spread, binding, options.draft),
    ...legacyHeaders(binding, options),
    ...retryAfter(spread),
  ];
}

function withJitter(report: QuotaReport, jitterMs: number): QuotaReport {
  if (report.retryAfterMs === 0) return report;
  const retryAfterMs = report.retryAfterMs + jitterMs;
  // Whoever is refused has more only when it may come again.
  return {
    ...report,
    retryAfterMs,
    resetMs: Math.max(0, retryAfterMs === Infinity ? report.resetMs : retryAfterMs),
  };
}

/** The report that binds: of those that refuse the one that does so longest, else the one with the smallest part left. */
function bindingOf(reports: readonly QuotaReport[]): QuotaReport | undefined {
  const rank = ({ retryAfterMs, remaining, limit }: QuotaReport): number =>
    retryAfterMs > 0 ? retryAfterMs : -remaining / limit;
  const [first, ...others] = reports;
  return others.reduce((best, each) => (best !== undefined && rank(best) >= rank(each) ? best : each), first);
}

function draftHeaders(
  reports: readonly QuotaReport[],
  binding: QuotaReport,
  draft: HeaderDraft | false,
): readonly Header[] {
  if (draft === false) return [];
  if (draft >= 8) {
    return [
      ["RateLimit-Policy", reports.map(policyItem).join(", ")],
      ["RateLimit", reports.map(limitItem).join(", ")],
    ];
  }
  const policy: Header = ["RateLimit-Policy", reports.map(bareItem).join(", ")];
  const [limit, remaining, reset] = [binding.limit, binding.remaining, seconds(binding.resetMs)].map(
    integerText,
  );
  if (draft === 7) return [policy, ["RateLimit", `limit=${limit}, remaining=${remaining}, reset=${reset}`]];
  return [
    policy,
    ["RateLimit-Limit", limit!],
    ["RateLimit-Remaining", remaining!],
    ["RateLimit-Reset", reset!],
  ];
}

function policyItem({ name, limit, windowMs, partition }: QuotaReport): string {
  return `${stringText(name)};q=${integerText(limit)}${windowText(windowMs)}${partitionText(partition)}`;
}

function limitItem({ name, remaining, resetMs, partition }: QuotaReport): string {
  const until = resetMs > 0 ? `;t=${integerText(seconds(resetMs))}` : "";
  return `${stringText(name)};r=${integerText(remaining)}${until}${partitionText(partition)}`;
}

function bareItem({ limit, windowMs }: QuotaReport): string {
  return integerText(limit) + windowText(windowMs);
}

function windowText(windowMs: number): string {
  return windowMs >= 1000 && windowMs % 1000 === 0 ? `;w=${integerText(windowMs / 1000)}` : "";
}

function partitionText(partition: Uint8Array | undefined): string {
  return partition === undefined ? "" : `;pk=${bytesText(partition)}`;
}

function legacyHeaders(
  { limit, remaining, resetMs }: QuotaReport,
  { legacy, nowMs }: FieldOptions,
): readonly Header[] {
  if (legacy === false) return [];
  const reset = seconds(legacy === "epoch" ? nowMs + resetMs : resetMs);
  return [
    ["X-RateLimit-Limit", integerText(limit)],
    ["X-RateLimit-Remaining", integerText(remaining)],
    ["X-RateLimit-Reset", integerText(reset)],
  ];
}

function retryAfter(reports: readonly QuotaReport[]): readonly Header[] {
  const longestMs = Math.max(...reports.map(({ retryAfterMs }) => retryAfterMs));
  return longestMs > 0 && longestMs < Infinity ? [["Retry-After", retryAfterText(longestMs)]] : [];
}

/** A `Retry-After` in whole seconds: rounded up, at least 1, so that whoever keeps to it is not refused again. */
export function retryAfterText(ms: number): string {
  return integerText(Math.max(1, seconds(ms)));
}

function seconds(ms: number): number {
  return Math.ceil(ms / 1000);
}
