import { describeValue, type ErrorCode, SluiceError } from "@sluice/core";

/** The largest input, result or progress: 1 MiB of JSON text. */
export const payloadBytesMax: number = 1_048_576;

/** What a value is for, which decides the codes of its errors. */
export type PayloadRole = "input" | "result" | "step result" | "progress";

/**
 * A value as the JSON text that is stored; null for `undefined`. Refuses what JSON would lose or a database could not
 * keep: cycles, BigInt, functions, NaN and infinities, NUL characters, lone surrogates, more than {@link payloadBytesMax}.
 * @throws `payload_invalid`/`payload_too_large` for inputs and progress, `result_invalid`/`result_too_large` for results.
 */
export function encodePayload(owner: string, role: PayloadRole, value: unknown): string | null {
  if (value === undefined) return null;
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  if (value === null) return "null";
  let text: string | undefined;
  try {
    // A replacer makes stringify several times slower, so it is asked only about what is not plain data.
    text = isPlain(value, 0) ? JSON.stringify(value) : JSON.stringify(value, refuseLossy);
  } catch (error) {
    throw problem(owner, role, "invalid", `cannot be written as JSON: ${reason(error)}`);
  }
  if (text === undefined)
    throw problem(owner, role, "invalid", `cannot be written as JSON: it is ${describeValue(value)}`);
  if (text.length > payloadBytesMax / 3 && Buffer.byteLength(text) > payloadBytesMax) {
    throw problem(
      owner,
      role,
      "too_large",
      `takes ${Buffer.byteLength(text)} bytes as JSON, at most ${payloadBytesMax} are kept`,
    );
  }
  if (text.includes("\\u") && holdsUnstorable(text)) {
    throw problem(
      owner,
      role,
      "invalid",
      "holds a NUL character or half of a surrogate pair, which no database keeps",
    );
  }
  return text;
}

/** The value of a stored text. */
export function decodePayload(text: string | null): unknown {
  return text === null ? undefined : JSON.parse(text);
}

/** How deep plain data is looked into before it is left to the slower way. */
const plainDepthMax = 16;

/** Whether a value surely is what JSON can hold without loss: no more than a quick look. */
function isPlain(value: unknown, depth: number): boolean {
  if (typeof value === "string" || typeof value === "boolean" || value === undefined || value === null)
    return true;
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object" || depth > plainDepthMax || "toJSON" in value) return false;
  for (const key in value) if (!isPlain((value as Record<string, unknown>)[key], depth + 1)) return false;
  return true;
}

function refuseLossy(_key: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value))
    throw new TypeError(`${value} has no place in JSON`);
  if (typeof value === "function" || typeof value === "symbol")
    throw new TypeError(`a ${typeof value} has no place in JSON`);
  return value;
}

/** Escapes that JSON.stringify writes for NUL and lone surrogates, told from a literal backslash followed by the same letters. */
function holdsUnstorable(text: string): boolean {
  for (const match of text.matchAll(/(\\+)u(?:0000|d[89a-f][0-9a-f]{2})/g)) {
    if (match[1]!.length % 2 === 1) return true;
  }
  return false;
}

function problem(owner: string, role: PayloadRole, kind: "invalid" | "too_large", says: string): SluiceError {
  const family = role === "result" || role === "step result" ? "result" : "payload";
  const code: ErrorCode = `${family}_${kind}`;
  return new SluiceError(code, `${owner}: the ${role} ${says}`);
}

function reason(error: unknown): string {
  if (error instanceof RangeError) return "it is nested too deep";
  const message = error instanceof Error ? String(error.message) : "its toJSON threw";
  // V8 draws the cycle over several lines.
  return message.split("\n", 1)[0]!;
}
