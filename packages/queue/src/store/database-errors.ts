/**
 * The one place where a failure of a database becomes a `SluiceError`. Both engines speak SQLSTATE, so one table
 * serves both; what has no SQLSTATE comes from the driver and means that the connection is gone.
 */
import { type ErrorCode, isSluiceError, SluiceError } from "@sluice/core";
import { raisedErrors } from "./raised-errors.ts";

/** An error the database server reported, as both drivers give it. */
export interface ServerError {
  /** SQLSTATE: five characters. */
  readonly code: string;
  readonly message: string;
  readonly severity?: string | undefined;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  readonly where?: string | undefined;
  readonly constraint?: string | undefined;
  readonly routine?: string | undefined;
}

/** Where a failure happened. */
export interface FailurePlace {
  /** The database in words that hold no secret: `127.0.0.1:5432` or `the embedded database`. */
  readonly target: string;
  /** What was being run: the name of a statement, or words such as "COMMIT". */
  readonly doing: string;
}

/** Whether the server reported `error`, as opposed to the driver or the network. */
export function isServerError(error: unknown): error is ServerError {
  if (typeof error !== "object" || error === null) return false;
  const { code, severity } = error as Partial<Record<string, unknown>>;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && typeof severity === "string";
}

/**
 * Whether a connection that answered with `error` can be used again. It cannot if the driver lost it, if the
 * server ended it, if the server became read-only (a failover: the next connection may reach the new primary), or
 * if its prepared statements have been outdated by a migration.
 */
export function connectionSurvives(error: unknown): boolean {
  if (!isServerError(error)) return false;
  if (error.severity === "FATAL" || error.severity === "PANIC") return false;
  return error.code !== "25006" && !isOutdatedPlan(error) && !/^(08|57P)/.test(error.code);
}

/** Translates whatever a driver threw. A `SluiceError` passes unchanged. */
export function translateError(error: unknown, place: FailurePlace): SluiceError {
  if (isSluiceError(error)) return error;
  if (isServerError(error)) return translateServerError(error, place);
  // A TypeError or RangeError is a defect of the caller or of ours; calling it "unavailable" would have it retried.
  if (error instanceof TypeError || error instanceof RangeError) {
    return new SluiceError("invariant_broken", `${place.doing}: ${error.message}`, { cause: error });
  }
  return new SluiceError("store_unavailable", `${place.target}: ${place.doing}: ${reasonOf(error)}`, {
    cause: error,
  });
}

/** The error of a call that did not answer within its deadline. */
export function deadlinePassed(place: FailurePlace, deadlineMs: number, why: string): SluiceError {
  const message = `${place.target}: ${place.doing}: no answer within ${deadlineMs} ms (${why})`;
  return new SluiceError("store_timeout", message, { details: { deadlineMs } });
}

function translateServerError(error: ServerError, place: FailurePlace): SluiceError {
  const raised = raisedErrors[error.code];
  const code = raised ?? codeOf(error);
  const message = raised === undefined ? `${place.target}: ${place.doing}: ${error.message}` : error.message;
  return new SluiceError(code, message, { cause: error, details: detailsOf(error) });
}

function codeOf(error: ServerError): ErrorCode {
  if (isOutdatedPlan(error)) return "store_conflict";
  return byState[error.code] ?? byClass[error.code.slice(0, 2)] ?? "invariant_broken";
}

/** By SQLSTATE; see Appendix A of the PostgreSQL manual. */
const byState: Readonly<Record<string, ErrorCode>> = {
  "25006": "store_unavailable", // read_only_sql_transaction: a standby, or a primary that lost its office
  "25P03": "store_unavailable", // idle_in_transaction_session_timeout
  "40001": "store_conflict", // serialization_failure
  "40P01": "store_conflict", // deadlock_detected
  "55P03": "store_timeout", // lock_not_available: lock_timeout passed
  "57014": "store_timeout", // query_canceled: statement_timeout passed, or an operator cancelled it
};

/** By class, for the codes not above. */
const byClass: Readonly<Record<string, ErrorCode>> = {
  "08": "store_unavailable", // connection exception
  "28": "store_unavailable", // login refused
  "3D": "store_unavailable", // no such database
  "53": "store_unavailable", // out of memory, disk or connections
  "57": "store_unavailable", // shutdown, crash, starting up
  "58": "store_unavailable", // input or output error of the server
};

/** A prepared statement whose columns a migration changed. Nothing was run; a fresh connection prepares it anew. */
function isOutdatedPlan(error: ServerError): boolean {
  return error.code === "0A000" && error.routine === "RevalidateCachedQuery";
}

function detailsOf(error: ServerError): Record<string, unknown> {
  const details: Record<string, unknown> = { sqlstate: error.code };
  for (const key of ["detail", "hint", "where", "constraint"] as const) {
    if (error[key] !== undefined) details[key] = error[key];
  }
  return details;
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}
