import { describeValue } from "./describe.ts";
import { SluiceError } from "./errors.ts";

/** The longest key, in UTF-16 units. */
export const keyLengthMax: number = 512;

/**
 * Checks that a key can be kept in every store: a string of 1 to 512 characters without control characters or lone
 * surrogates.
 * @throws `invalid_key`.
 */
export function requireKey(key: string): void {
  if (typeof key === "string" && key.length >= 1 && key.length <= keyLengthMax && isClean(key)) return;
  throw new SluiceError(
    "invalid_key",
    `key: expected 1 to ${keyLengthMax} characters without control characters, got ${describeValue(key)}`,
  );
}

function isClean(key: string): boolean {
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i);
    // Printable ASCII, which most keys are made of, takes a fraction of what the expression does.
    if (code < 0x20 || code > 0x7e) return !forbidden.test(key);
  }
  return true;
}

const forbidden = /[\p{Cc}\p{Surrogate}]/u;
