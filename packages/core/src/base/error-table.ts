import { type ErrorCode, type ErrorFamily, errorCodes, familyOf, isRetryable } from "./errors.ts";

/** One row of {@link errorTable}. */
export interface ErrorEntry {
  readonly family: ErrorFamily;
  /** Whether the same call may succeed later without a change of code, options or data. */
  readonly retryable: boolean;
  /** One sentence that fits every occurrence; the message of an error tells the particulars. */
  readonly summary: string;
}

const summaries: Readonly<Record<ErrorCode, string>> = {
  invalid_option: "An option is unknown, missing, of the wrong kind or out of bounds.",
  invalid_rate: "A rate cannot be read, or is out of bounds.",
  already_declared: "The name is already taken by a declaration that differs.",

  closed: "The object was closed and takes no more calls.",
  too_many_waiters: "The line of waiting callers is full.",
  not_settleable: "The reservation was settled or cancelled before, or was never admitted.",
  too_many_keys: "The store holds as many live keys as it may.",
  rate_limited: "A limit refused the request and the caller asked for an exception.",
  circuit_open: "A circuit breaker is open: calls are refused until a probe has succeeded.",
  not_transactional: "The call needs a client inside a transaction, and this one is not.",
  timeout: "The caller's own time limit passed before there was an answer.",

  invalid_cost: "A cost is not a whole number of at least 1.",
  invalid_key: "A key or name is empty, too long, or holds characters it may not.",
  cost_exceeds_capacity: "The cost is more than the limit can ever admit at once.",
  payload_invalid: "A payload cannot be stored as JSON without loss.",
  payload_too_large: "A payload is larger than the bound.",
  batch_too_large: "A batch holds more items than the bound.",

  store_unavailable: "The store cannot be reached or refused the connection.",
  store_timeout: "The store did not answer within the deadline.",
  store_conflict: "The store gave way to a concurrent call; nothing of this one took effect.",
  database_too_old: "The database server is older than the oldest version supported.",
  data_directory_in_use: "Another process has the data directory open.",
  data_directory_unusable: "The data directory cannot be created, read or written.",

  schema_too_new: "The database schema was migrated by a newer release.",

  lease_lost: "The lease ran out or was taken over before the work was done.",
  stale_lease: "The write came from an earlier holder and changed nothing.",
  idempotency_conflict: "The idempotency key was used before with different content.",
  step_mismatch: "The task asks for other steps than the ones recorded for it.",

  task_not_found: "There is no task with this id.",
  queue_not_found: "There is no queue with this name.",
  no_handler: "No handler is declared for the task.",

  task_failed: "The task ended in failure; the cause is the last error of its handler.",
  task_cancelled: "The task was cancelled before it succeeded.",
  result_invalid: "What the handler returned cannot be stored as JSON without loss.",
  result_too_large: "What the handler returned is larger than the bound.",

  invariant_broken: "Sluice found itself in a state that must not exist.",
};

/** Every code with its family, whether a retry can help, and what it means. */
export const errorTable: Readonly<Record<ErrorCode, ErrorEntry>> = /* @__PURE__ */ tableOf(summaries);

function tableOf(sentences: Readonly<Record<ErrorCode, string>>): Readonly<Record<ErrorCode, ErrorEntry>> {
  const rows = errorCodes().map((code) => [
    code,
    Object.freeze({ family: familyOf(code), retryable: isRetryable(code), summary: sentences[code] }),
  ]);
  return Object.freeze(Object.fromEntries(rows) as Record<ErrorCode, ErrorEntry>);
}
