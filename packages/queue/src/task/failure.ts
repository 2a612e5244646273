/** The error of an attempt as it is kept: never more than this many characters of message or stack. */
const messageLengthMax = 4_000;
const stackLengthMax = 12_000;

/** An error as stored with its task and handed to whoever asks. */
export interface TaskError {
  /** The error's own string `code`, or `handler_failed`. */
  readonly code: string;
  readonly message: string;
  readonly stack?: string;
}

/** Whatever was thrown, in a form that can always be stored: bounded, and free of what no database keeps. */
export function describeFailure(thrown: unknown): TaskError {
  const code = textOf(thrown, "code");
  const message = textOf(thrown, "message") ?? describeThrown(thrown);
  const stack = textOf(thrown, "stack");
  return {
    code: code === undefined || code === "" ? "handler_failed" : storable(code, 200),
    message: storable(message, messageLengthMax),
    ...(stack === undefined ? {} : { stack: storable(stack, stackLengthMax) }),
  };
}

/** A property of whatever was thrown, if it is text and reading it does not throw in turn. */
function textOf(thrown: unknown, name: "code" | "message" | "stack"): string | undefined {
  try {
    if (typeof thrown !== "object" || thrown === null) return undefined;
    const value = (thrown as Record<string, unknown>)[name];
    return typeof value === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

function describeThrown(thrown: unknown): string {
  try {
    return typeof thrown === "string" ? thrown : (JSON.stringify(thrown) ?? String(thrown));
  } catch {
    return "the handler threw something that cannot be described";
  }
}

function storable(text: string, lengthMax: number): string {
  const cut = text.length > lengthMax ? `${text.slice(0, lengthMax)}…` : text;
  return cut.toWellFormed().replaceAll("\0", "\ufffd");
}
