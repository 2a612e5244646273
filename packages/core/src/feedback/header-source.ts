/**
 * One face for the many shapes in which HTTP clients hand over an answer, so that readers of headers know only this one.
 */

/** The headers of an answer, and what else of it is known. */
export interface HeaderSource {
  /** The status code; undefined when only headers were given. */
  readonly status: number | undefined;
  /** The body, if the client had parsed it already (axios' `data`). */
  readonly body: unknown;
  /** The value of a header, given in lower case, trimmed; several lines are joined with commas. Never throws. */
  get(name: string): string | undefined;
}

/** The most header names that are looked at where they must be searched. */
const headersMax = 2000;

/**
 * Reads a fetch `Response`, a node `IncomingMessage`, what axios, got, undici and their like return or throw (an error that
 * carries a `response`), a `Headers`, a `Map`, pairs, or a plain object of headers. Undefined for anything else.
 */
export function headerSource(response: unknown): HeaderSource | undefined {
  try {
    return sourceOf(response);
  } catch {
    // Getters and proxies of strangers may throw; an answer that cannot be read says nothing.
    return undefined;
  }
}

function sourceOf(given: unknown): HeaderSource | undefined {
  if (!isObject(given)) return undefined;
  const carrier =
    isObject(given["response"]) && isObject(given["response"]["headers"]) ? given["response"] : given;
  const headers = isObject(carrier["headers"]) ? carrier["headers"] : undefined;
  const get = lookup(headers ?? carrier);
  if (get === undefined) return undefined;
  if (headers === undefined) return { status: undefined, body: undefined, get };
  const status = carrier["status"] ?? carrier["statusCode"] ?? given["status"];
  return {
    status: typeof status === "number" && Number.isInteger(status) ? status : undefined,
    body: isObject(carrier["data"]) ? carrier["data"] : undefined,
    get,
  };
}

type Lookup = HeaderSource["get"];

function lookup(headers: Readonly<Record<string, unknown>>): Lookup | undefined {
  if (headers instanceof Map) return lookupIn(headers.entries());
  if (Array.isArray(headers)) return lookupIn(pairsOf(headers));
  const get = headers["get"];
  if (typeof get !== "function") return lookupIn(Object.entries(headers));
  return (name) => {
    try {
      return textOf(get.call(headers, name));
    } catch {
      return undefined;
    }
  };
}

/** Pairs, or names and values in turn as in `rawHeaders`. */
function pairsOf(list: readonly unknown[]): (readonly [unknown, unknown])[] {
  if (list.every((each) => Array.isArray(each))) return list.map((pair) => [pair[0], pair[1]]);
  return Array.from({ length: Math.floor(list.length / 2) }, (_, i) => [list[2 * i], list[2 * i + 1]]);
}

function lookupIn(entries: Iterable<readonly [unknown, unknown]>): Lookup {
  const values = new Map<string, string>();
  let left = headersMax;
  for (const [name, value] of entries) {
    if (left-- === 0) break;
    const text = textOf(value);
    if (typeof name !== "string" || text === undefined) continue;
    const key = name.toLowerCase();
    const before = values.get(key);
    values.set(key, before === undefined ? text : `${before}, ${text}`);
  }
  return (name) => values.get(name);
}

function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value.trim();
  if (typeof value === "number") return String(value);
  if (!Array.isArray(value) || value.length === 0) return undefined;
  return value.every((line) => typeof line === "string") ? value.join(", ").trim() : undefined;
}

/** Whether fields can be read from `value`. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
