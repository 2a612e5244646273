/**
 * The one table of errors. Every failure Sluice reports is a {@link SluiceError} whose `code` is a key of
 * `errorTable`. Steer by the code, never by the message. `docs/errors.md` documents each code, and a test
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

/** Family of each code, and whether a retry can help. The sentences are apart, so that a bundle need not carry them. */
const kinds = {
  invalid_option: ["config", false],
  invalid_rate: ["config", false],
  already_declared: ["config", false],

  closed: ["usage", false],
  too_many_waiters: ["usage", true],
  not_settleable: ["usage", false],
  too_many_keys: ["usage", true],
  rate_limited: ["usage", true],
  circuit_open: ["usage", true],
  not_transactional: ["usage", false],
  timeout: ["usage", true],

  invalid_cost: ["input", false],
  invalid_key: ["input", false],
  cost_exceeds_capacity: ["input", false],
  payload_invalid: ["input", false],
  payload_too_large: ["input", false],
  batch_too_large: ["input", false],

  store_unavailable: ["store", true],
  store_timeout: ["store", true],
  store_conflict: ["store", true],
  database_too_old: ["store", false],
  data_directory_in_use: ["store", true],
  data_directory_unusable: ["store", false],

  schema_too_new: ["schema", false],

  lease_lost: ["conflict", true],
  stale_lease: ["conflict", false],
  idempotency_conflict: ["conflict", false],
  step_mismatch: ["conflict", false],

  task_not_found: ["not-found", false],
  queue_not_found: ["not-found", false],
  no_handler: ["not-found", false],

  task_failed: ["handler", false],
  task_cancelled: ["handler", false],
  result_invalid: ["handler", false],
  result_too_large: ["handler", false],

  invariant_broken: ["internal", false],
} as const;

/** The `code` of a {@link SluiceError}: stable across releases. */
export type ErrorCode = keyof typeof kinds;

/** What kind of failure a code is. */
export function familyOf(code: ErrorCode): ErrorFamily {
  return kinds[code][0];
}

/** Whether the same call may succeed later without a change of code, options or data. */
export function isRetryable(code: ErrorCode): boolean {
  return kinds[code][1];
}

/** Every code. */
export function errorCodes(): readonly ErrorCode[] {
  return Object.keys(kinds) as ErrorCode[];
}

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
  /** Which failure this is: a key of `errorTable`. */
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
    return familyOf(this.code);
  }

  /** Whether the same call may succeed later, unchanged. */
  get retryable(): boolean {
    return isRetryable(this.code);
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
