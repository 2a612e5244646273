/**
 * The one table of errors. Every failure Sluice reports is a {@link SluiceError} whose `code` is a key of
 * {@link errorTable}. Steer by the code, never by the message. `docs/errors.md` documents each code, and a test
 * keeps the page and this table equal in both directions.
 *
 * A denied request, a duplicate enqueue and an empty queue are answers, not errors, and have no code here.
 */

/**
 * What kind of failure a code is:
 * - `config`: an option or rate is wrong; thrown at once by the call that was given it
 * - `usage`: the call is not possible in this state (closed, line full, declared twice)
 * - `input`: the data of one call is wrong (cost, key, payload)
 * - `store`: the store or database could not answer; says nothing about the budget
 * - `conflict`: someone else was first (lease lost, key reused)
 * - `not-found`: no such task, queue or handler
 * - `schema`: the database holds another version of the schema than this release needs
 * - `handler`: the code of a task failed, or what it returned cannot be stored
 * - `internal`: a promise of Sluice to itself is broken; please report it
 */
export type ErrorFamily =
  | "config"
  | "usage"
  | "input"
  | "store"
  | "conflict"
  | "not-found"
  | "schema"
  | "handler"
  | "internal";

/** One row of {@link errorTable}. */
export interface ErrorEntry {
  readonly family: ErrorFamily;
  /** Whether the same call may succeed later without a change of code, options or data. */
  readonly retryable: boolean;
  /** One sentence that fits every occurrence; the message of an error tells the particulars. */
  readonly summary: string;
}

const table = {
  invalid_option: {
    family: "config",
    retryable: false,
    summary: "An option is unknown, missing, of the wrong kind or out of bounds.",
  },
  invalid_rate: {
    family: "config",
    retryable: false,
    summary: "A rate cannot be read, or is out of bounds.",
  },
  already_declared: {
    family: "config",
    retryable: false,
    summary: "The name is already taken by a declaration that differs.",
  },

  closed: {
    family: "usage",
    retryable: false,
    summary: "The object was closed and takes no more calls.",
  },
  too_many_waiters: {
    family: "usage",
    retryable: true,
    summary: "The line of waiting callers is full.",
  },
  too_many_keys: {
    family: "usage",
    retryable: true,
    summary: "The store holds as many live keys as it may.",
  },
  rate_limited: {
    family: "usage",
    retryable: true,
    summary: "A limit refused the request and the caller asked for an exception.",
  },
  not_transactional: {
    family: "usage",
    retryable: false,
    summary: "The call needs a client inside a transaction, and this one is not.",
  },
  timeout: {
    family: "usage",
    retryable: true,
    summary: "The caller's own time limit passed before there was an answer.",
  },

  invalid_cost: {
    family: "input",
    retryable: false,
    summary: "A cost is not a whole number of at least 1.",
  },
  invalid_key: {
    family: "input",
    retryable: false,
    summary: "A key or name is empty, too long, or holds characters it may not.",
  },
  cost_exceeds_capacity: {
    family: "input",
    retryable: false,
    summary: "The cost is more than the limit can ever admit at once.",
  },
  payload_invalid: {
    family: "input",
    retryable: false,
    summary: "A payload cannot be stored as JSON without loss.",
  },
  payload_too_large: {
    family: "input",
    retryable: false,
    summary: "A payload is larger than the bound.",
  },
  batch_too_large: {
    family: "input",
    retryable: false,
    summary: "A batch holds more items than the bound.",
  },

  store_unavailable: {
    family: "store",
    retryable: true,
    summary: "The store cannot be reached or refused the connection.",
  },
  store_timeout: {
    family: "store",
    retryable: true,
    summary: "The store did not answer within the deadline.",
  },
  store_conflict: {
    family: "store",
    retryable: true,
    summary: "The store gave way to a concurrent call; nothing of this one took effect.",
  },
  database_too_old: {
    family: "store",
    retryable: false,
    summary: "The database server is older than the oldest version supported.",
  },
  data_directory_in_use: {
    family: "store",
    retryable: true,
    summary: "Another process has the data directory open.",
  },
  data_directory_unusable: {
    family: "store",
    retryable: false,
    summary: "The data directory cannot be created, read or written.",
  },

  schema_too_new: {
    family: "schema",
    retryable: false,
    summary: "The database schema was migrated by a newer release.",
  },

  lease_lost: {
    family: "conflict",
    retryable: true,
    summary: "The lease ran out or was taken over before the work was done.",
  },
  stale_lease: {
    family: "conflict",
    retryable: false,
    summary: "The write came from an earlier holder and changed nothing.",
  },
  idempotency_conflict: {
    family: "conflict",
    retryable: false,
    summary: "The idempotency key was used before with different content.",
  },
  step_mismatch: {
    family: "conflict",
    retryable: false,
    summary: "The task asks for other steps than the ones recorded for it.",
  },

  task_not_found: {
    family: "not-found",
    retryable: false,
    summary: "There is no task with this id.",
  },
  queue_not_found: {
    family: "not-found",
    retryable: false,
    summary: "There is no queue with this name.",
  },
  no_handler: {
    family: "not-found",
    retryable: false,
    summary: "No handler is declared for the task.",
  },

  task_failed: {
    family: "handler",
    retryable: false,
    summary: "The task ended in failure; the cause is the last error of its handler.",
  },
  task_cancelled: {
    family: "handler",
    retryable: false,
    summary: "The task was cancelled before it succeeded.",
  },
  result_invalid: {
    family: "handler",
    retryable: false,
    summary: "What the handler returned cannot be stored as JSON without loss.",
  },
  result_too_large: {
    family: "handler",
    retryable: false,
    summary: "What the handler returned is larger than the bound.",
  },

  invariant_broken: {
    family: "internal",
    retryable: false,
    summary: "Sluice found itself in a state that must not exist.",
  },
} as const;

/** The `code` of a {@link SluiceError}: stable across releases. */
export type ErrorCode = keyof typeof table;

/** Every code with its family, whether a retry can help, and what it means. */
export const errorTable: Readonly<Record<ErrorCode, ErrorEntry>> = Object.freeze(table);

/** What {@link SluiceError} takes besides code and message. */
export interface SluiceErrorOptions {
  /** The failure underneath, if there is one. */
  readonly cause?: unknown;
  /** Particulars for programs and logs: plain data, no secrets. */
  readonly details?: Readonly<Record<string, unknown>>;
}

// A registered symbol, not `instanceof`: two copies of this package in one process know each other's errors.
const brand = Symbol.for("sluice.error");

/** The only class of error Sluice throws, apart from subclasses that carry more data under the same contract. */
export class SluiceError extends Error {
  /** Which failure this is: a key of {@link errorTable}. */
  readonly code: ErrorCode;
  /** The particulars, as plain data. Empty when there are none. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: SluiceErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.details = options.details ?? {};
  }

  /** What kind of failure this is. */
  get family(): ErrorFamily {
    return errorTable[this.code].family;
  }

  /** Whether the same call may succeed later, unchanged. */
  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }

  static {
    // On the prototype, so that the printed error shows its code and details and nothing else.
    Object.defineProperty(SluiceError.prototype, "name", {
      value: "SluiceError",
      writable: true,
      configurable: true,
    });
    Object.defineProperty(SluiceError.prototype, brand, { value: true });
  }
}

/**
 * Whether `value` is an error of Sluice, and, if `code` is given, that one.
 * Works across copies of this package, unlike `instanceof`.
 */
export function isSluiceError<Code extends ErrorCode = ErrorCode>(
  value: unknown,
  code?: Code,
): value is SluiceError & { readonly code: Code } {
  if (typeof value !== "object" || value === null || !(brand in value)) return false;
  return code === undefined || (value as { code?: unknown }).code === code;
}
