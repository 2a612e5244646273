import { createHash } from "node:crypto";

/** The longest key that is stored as it is, in characters: well within what an index takes. */
const plainLengthMax = 300;

/**
 * One text for limit and key, under which their state is stored: the length of the limit's name, a colon, name and key, such as
 * `6:githubacme`. The length makes it injective. What is longer than 300 characters, or not of printable ASCII (there are databases
 * that can store nothing else), becomes `#` and the SHA-256 of its UTF-16 units: no other text of ours begins like that.
 */
export function rowKeyOf(name: string, key: string): string {
  const rowKey = `${name.length}:${name}${key}`;
  if (rowKey.length <= plainLengthMax && /^[ -~]*$/.test(rowKey)) return rowKey;
  return `#${createHash("sha256").update(Buffer.from(rowKey, "utf16le")).digest("base64url")}`;
}
