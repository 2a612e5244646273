/** Writing of structured field values (RFC 9651). Whatever is handed in, what comes out is valid. */

/** The largest integer a structured field may hold: 15 digits. */
export const fieldIntegerMax: number = 999_999_999_999_999;

/** A whole number of at least 0; what is larger than a field can hold is written as the largest. */
export function integerText(value: number): string {
  const whole = Number.isNaN(value) ? 0 : Math.trunc(value);
  return String(Math.min(Math.max(0, whole), fieldIntegerMax));
}

/** Whether `text` can be written as a String: printable ASCII only. */
export function isFieldString(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

/** A String in quotes, with `"` and `\` escaped. What no String can hold becomes `?`; ask {@link isFieldString} first. */
export function stringText(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, "?").replace(/["\\]/g, "\\$&")}"`;
}

/** A Byte Sequence. */
export function bytesText(bytes: Uint8Array): string {
  return `:${Buffer.from(bytes).toString("base64")}:`;
}
