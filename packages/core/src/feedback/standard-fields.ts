/**
 * `RateLimit` and `RateLimit-Policy` as the drafts of draft-ietf-httpapi-ratelimit-headers have them:
 *
 *     6        RateLimit-Limit: 100     RateLimit-Remaining: 50     RateLimit-Reset: 30     RateLimit-Policy: 100;w=60
 *     7        RateLimit: limit=100, remaining=50, reset=30         RateLimit-Policy: 100;w=60
 *     8 to 11  RateLimit: "default";r=50;t=30                       RateLimit-Policy: "default";q=100;w=60
 */
import type { HeaderSource } from "./header-source.ts";
import { parseFirstCount, parseReset, type Quota, quotaOf, type RawQuota } from "./quota.ts";
import { type FieldMember, type Parameters, parseDictionary, parseList } from "./structured-fields.ts";

/**
 * Reads whichever of the drafts an answer speaks; empty when none.
 * @param nowMs Some servers send `RateLimit-Reset` as an instant, against every draft.
 */
export function readStandardFields(headers: HeaderSource, nowMs: number): readonly Quota[] {
  const policies = readPolicies(headers.get("ratelimit-policy"));
  const field = headers.get("ratelimit");
  const raw =
    (field === undefined ? undefined : (readDraft7(field) ?? readDraft8(field, policies))) ??
    readDraft6(headers, nowMs);
  return raw.map((each) => quotaOf(withWindow(each, policies))).filter((quota) => quota !== undefined);
}

/** A policy of the `RateLimit-Policy` field: named since draft 8, before that known by its limit. */
interface QuotaPolicy {
  readonly name: string | undefined;
  readonly limit: number | undefined;
  readonly windowMs: number | undefined;
}

function readPolicies(field: string | undefined): readonly QuotaPolicy[] {
  return (parseList(field ?? "") ?? []).flatMap((member): readonly QuotaPolicy[] => {
    const windowMs = secondsIn(member.parameters, "w");
    const name = nameOf(member);
    if (name !== undefined) return [{ name, limit: integerIn(member.parameters, "q"), windowMs }];
    const limit = integerOf(member);
    return limit === undefined ? [] : [{ name: undefined, limit, windowMs }];
  });
}

function readDraft6(headers: HeaderSource, nowMs: number): readonly RawQuota[] {
  const reset = headers.get("ratelimit-reset");
  return [
    {
      name: undefined,
      limit: parseFirstCount(headers.get("ratelimit-limit")),
      remaining: parseFirstCount(headers.get("ratelimit-remaining")),
      resetMs: reset === undefined ? undefined : parseReset(reset, nowMs),
      windowMs: undefined,
    },
  ];
}

function readDraft7(field: string): readonly RawQuota[] | undefined {
  const members = parseDictionary(field);
  const remaining = integerOf(members?.get("remaining"));
  if (remaining === undefined) return undefined;
  const resetS = integerOf(members?.get("reset"));
  return [
    {
      name: undefined,
      limit: integerOf(members?.get("limit")),
      remaining,
      resetMs: resetS === undefined ? undefined : resetS * 1000,
      windowMs: undefined,
    },
  ];
}

function readDraft8(field: string, policies: readonly QuotaPolicy[]): readonly RawQuota[] | undefined {
  const quotas = (parseList(field) ?? []).flatMap((member) => {
    const name = nameOf(member);
    const remaining = integerIn(member.parameters, "r");
    if (name === undefined || remaining === undefined) return [];
    const limit = policies.find((policy) => policy.name === name)?.limit;
    return [{ name, limit, remaining, resetMs: secondsIn(member.parameters, "t"), windowMs: undefined }];
  });
  return quotas.length === 0 ? undefined : quotas;
}

function withWindow(raw: RawQuota, policies: readonly QuotaPolicy[]): RawQuota {
  const policy = policies.find(({ name, limit }) =>
    raw.name === undefined ? limit === raw.limit : name === raw.name,
  );
  return { ...raw, windowMs: policy?.windowMs };
}

/** Names are strings since draft 8; before it was published they were tokens, and some servers still send those. */
function nameOf(member: FieldMember): string | undefined {
  if (!("item" in member)) return undefined;
  return member.item.kind === "string" || member.item.kind === "token" ? member.item.value : undefined;
}

function integerOf(member: FieldMember | undefined): number | undefined {
  if (member === undefined || !("item" in member) || member.item.kind !== "integer") return undefined;
  return member.item.value < 0 ? undefined : member.item.value;
}

function integerIn(parameters: Parameters, name: string): number | undefined {
  const item = parameters.get(name);
  return item?.kind === "integer" && item.value >= 0 ? item.value : undefined;
}

function secondsIn(parameters: Parameters, name: string): number | undefined {
  const seconds = integerIn(parameters, name);
  return seconds === undefined ? undefined : seconds * 1000;
}
