/**
 * How keys are spelled in Redis: `prefix:{subject}`, a hash with a field for each limit. The subject, in the braces that decide
 * the slot of a cluster, is the key; so all limits of one subject lie together and are read, decided and written in one
 * step. The budget of a limit without a key is at `prefix:{%=limit}`.
 *
 * Keys are anybody's text and names may hold anything, so both are encoded: no two (limit, key) pairs share a field, and nobody
 * chooses a slot by braces of their own.
 */
import { createHash } from "node:crypto";

/** What may stand as it is: nothing that ends a tag, no escapes, no control characters, no lone surrogates. */
const plain = /^[^{}%\p{Control}\p{Surrogate}]{1,128}$/u;
const escaped = /[^\w.:@/-]/g;
const escapedLengthMax = 128;

/**
 * A text by another that `plain` accepts or that begins an escape, one to one. Short ones stay legible, long ones become a
 * hash: of 256 bits, so that two never meet.
 */
export function encodePart(text: string): string {
  if (plain.test(text)) return text;
  if (text.length > escapedLengthMax) {
    return `%#${createHash("sha256").update(Buffer.from(text, "utf16le")).digest("base64url")}`;
  }
  return text.replace(escaped, (unit) => `%${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/**
 * The key that holds a limit's state.
 * @param field The limit's name, encoded.
 */
export function keyName(prefix: string, field: string, key: string): string {
  return `${prefix}:{${key === "" ? `%=${field}` : encodePart(key)}}`;
}
