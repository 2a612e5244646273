import { SluiceError } from "./errors.ts";

/**
 * Checks a promise the code makes to itself. Not for checking what callers hand in: that deserves an error of its own.
 * @throws `invariant_broken` when `condition` is false; the operation ends there.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new SluiceError("invariant_broken", message);
}

/** Ends a `switch` that covers every case; the compiler objects when one is missing. */
export function unreachable(value: never): never {
  throw new SluiceError("invariant_broken", `unreachable: ${String(value)}`);
}
