/** Reading of the headers in which proxies write down where a request came from. */

/** The most entries that are looked at, from the right; what lies further left was written by nobody we could trust. */
const entriesMax = 64;

/** The entries of a comma-separated header such as `X-Forwarded-For`, from the right: the proxy next to us first. */
export function entriesFromRight(header: string): readonly string[] {
  const entries: string[] = [];
  let end = header.length;
  while (end >= 0 && entries.length < entriesMax) {
    const comma = end === 0 ? -1 : header.lastIndexOf(",", end - 1);
    const entry = header.slice(comma + 1, end).trim();
    // Empty entries say nothing: proxies and clients leave them behind.
    if (entry !== "") entries.push(entry);
    end = comma;
  }
  return entries;
}

const element = /(?:[^,";]|"(?:[^"\\]|\\.)*")*(?:;(?:[^,";]|"(?:[^"\\]|\\.)*")*)*/y;
const forPair = /(?:^|;)\s*for=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))/i;

/**
 * The `for` of each element of a `Forwarded` header (RFC 7239), from the right; an element without one, and everything left of
 * a fault, is an empty text.
 */
export function forwardedFromRight(header: string): readonly string[] {
  const found: string[] = [];
  for (let at = 0; at <= header.length; at++) {
    element.lastIndex = at;
    const text = element.exec(header)?.[0] ?? "";
    at += text.length;
    if (at < header.length && header[at] !== ",") {
      // A quote that never ends: whatever it was to hide, only what a later proxy adds behind it could be told apart.
      return [""];
    }
    const [, quoted, plain] = forPair.exec(text) ?? [];
    if (text.trim() !== "") found.push(quoted?.replace(/\\(.)/g, "$1") ?? plain ?? "");
  }
  return found.reverse().slice(0, entriesMax);
}
