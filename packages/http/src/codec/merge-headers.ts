/** Headers of several doors on one answer: the lists of the drafts are joined, and the longest wait counts. */

/**
 * The value to set for a header of the door.
 * @param before What the answer has for it already.
 */
export function mergedHeader(name: string, before: string | undefined, value: string): string {
  if (before === undefined || before === "") return value;
  if (name === "Retry-After") return Number(before) > Number(value) ? before : value;
  // Lists of named policies can be joined; the single numbers of earlier drafts are those of the last door.
  const isNamed = (name === "RateLimit" || name === "RateLimit-Policy") && value.startsWith('"');
  return isNamed && before.startsWith('"') ? `${before}, ${value}` : value;
}
