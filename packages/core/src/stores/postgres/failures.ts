/** The one place where a failure of the database becomes a `SluiceError`. */
import { type ErrorCode, isSluiceError, SluiceError } from "../../base/errors.ts";

interface ServerError {
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
}

/** Errors with a SQLSTATE and a severity are the server's; others come from the driver or the network. */
function isServerError(error: unknown): error is ServerError {
  if (typeof error !== "object" || error === null) return false;
  const { code, severity } = error as Partial<Record<string, unknown>>;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && typeof severity === "string";
}

/**
 * Translates what a driver threw. After `store_unavailable` and `store_timeout` the statement may have taken effect, so what it asked
 * for counts as consumed; after `store_conflict` it has not.
 */
export function translateFailure(error: unknown, doing: string): SluiceError {
  if (isSluiceError(error)) return error;
  if (!isServerError(error)) {
    return new SluiceError("store_unavailable", `PostgreSQL: ${doing}: ${reasonOf(error)}`, { cause: error });
  }
  const details: Record<string, unknown> = { sqlstate: error.code };
  for (const name of ["detail", "hint"] as const) if (error[name] !== undefined) details[name] = error[name];
  const message = `PostgreSQL: ${doing}: ${error.message}`;
  return new SluiceError(codeOf(error.code), message, { cause: error, details });
}

/** Whether the routines or tables have gone since they were found: then nothing happened, and they can be made anew. */
export function isSchemaGone(error: unknown): boolean {
  if (!isSluiceError(error)) return false;
  return ["3F000", "42P01", "42883", "42704"].includes(String(error.details["sqlstate"]));
}

/** By SQLSTATE; see Appendix A of the PostgreSQL manual. */
const byState: Readonly<Record<string, ErrorCode>> = {
  "25006": "store_unavailable", // read_only_sql_transaction: a standby, or a primary that lost its office
  "25P03": "store_unavailable", // idle_in_transaction_session_timeout
  "40001": "store_conflict", // serialization_failure
  "40P01": "store_conflict", // deadlock_detected
  "42501": "store_unavailable", // insufficient_privilege
  "55P03": "store_timeout", // lock_not_available: lock_timeout passed
  "57014": "store_timeout", // query_canceled: statement_timeout passed, or an operator cancelled it
};

/** By class, for the states not above. */
const byClass: Readonly<Record<string, ErrorCode>> = {
  "08": "store_unavailable", // connection exception
  "28": "store_unavailable", // login refused
  "3D": "store_unavailable", // no such database
  "53": "store_unavailable", // out of memory, disk or connections
  "57": "store_unavailable", // shutdown, crash, starting up
  "58": "store_unavailable", // input or output error of the server
};

function codeOf(state: string): ErrorCode {
  return byState[state] ?? byClass[state.slice(0, 2)] ?? "invariant_broken";
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}
