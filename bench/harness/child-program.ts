/** The child's side of `children.ts`: answers calls by name, leaves when its parent does. */

/** An operation of a child program. Its result is sent back, its rejection as an error. */
// biome-ignore lint/suspicious/noConfusingVoidType: an operation may answer nothing
export type Operation = (argument: never) => Promise<unknown> | unknown | void;

interface Call {
  readonly id: number;
  readonly operation: string;
  readonly argument: unknown;
}

/** Sends a notice to the parent: something happened at `atUs` of the monotonic clock. */
export function notify(notice: string, value: number, atUs: number): void {
  process.send?.({ notice, value, atUs });
}

/** Serves calls until the parent ends this process or goes away. */
export function serveCalls(operations: Readonly<Record<string, Operation>>): void {
  process.on("disconnect", () => process.exit(0));
  process.on("SIGTERM", () => process.exit(0));
  process.on("message", (message) => {
    void answer(message as Call, operations);
  });
}

async function answer(call: Call, operations: Readonly<Record<string, Operation>>): Promise<void> {
  try {
    const operation = operations[call.operation];
    if (operation === undefined) throw new Error(`no operation ${call.operation}`);
    const value = await operation(call.argument as never);
    process.send?.({ id: call.id, value });
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.send?.({ id: call.id, error: text.split("\n").slice(0, 4).join(" | ") });
  }
}
