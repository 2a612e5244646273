import { headerSource, isObject } from "../feedback/header-source.ts";
import { parseRetryAfter } from "../feedback/retry-after.ts";

/**
 * How long an error, or an answer that stands for one, asks to wait, in milliseconds: `retryAfterMs` of a denial or of the
 * error itself, or `Retry-After` of the HTTP answer that it is or carries. Infinity when no waiting helps; undefined when it
 * asks for nothing.
 * @param nowMs The present, in milliseconds since the epoch.
 */
export function retryAfterOf(failure: unknown, nowMs: number): number | undefined {
  if (!isObject(failure)) return undefined;
  // A denial for ever has Infinity in its decision only: details are plain data.
  const told = waitOf(failure["decision"]) ?? waitOf(failure) ?? waitOf(failure["details"]);
  if (told !== undefined) return told;
  const header = headerSource(failure)?.get("retry-after");
  return header === undefined ? undefined : parseRetryAfter(header, nowMs);
}

function waitOf(holder: unknown): number | undefined {
  const wait = isObject(holder) ? holder["retryAfterMs"] : undefined;
  return typeof wait === "number" && wait >= 0 ? wait : undefined;
}
