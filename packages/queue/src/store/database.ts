/**
 * The database port: everything the queue engine asks of a database. Two engines implement it, PostgreSQL
 * (`postgres.ts`) and PGlite in a worker thread (`embedded/`), and one conformance suite holds both to it.
 *
 * The rules both keep:
 * - A statement is sent at most once. An engine never repeats one by itself, because only the caller knows what
 *   is idempotent; after `store_unavailable` or `store_timeout` the statement may or may not have taken effect.
 * - Every call has a deadline. Past it the call rejects with `store_timeout` and whatever still runs it (a
 *   connection, the embedded engine's turn) is never handed to another call before it is clean again.
 * - Losing the server never crashes the process: calls in flight reject with `store_unavailable`, the next call
 *   connects anew.
 * - Driver errors become a `SluiceError` in one function per engine; see `docs/errors.md` for the codes.
 */

/** One SQL statement. Constant for the life of the process: build it once, at module level, not per call. */
export interface Statement {
  /** Name of the prepared statement: stable, unique per text, at most 63 bytes. */
  readonly name: string;
  /** SQL with `$1`-style parameters. Exactly one statement. */
  readonly text: string;
}

/**
 * A parameter. The type comes from the statement (`$1::int`), never from the JavaScript value. Arrays are passed
 * as PostgreSQL array literals, that is strings such as `{1,2,3}`, and JSON as its text.
 */
export type Value = string | number | boolean | null | Uint8Array;

/**
 * A row by column name. Statements cast their columns so that both engines give the same JavaScript values:
 * text → string, int4 and float8 → number, bool → boolean, NULL → null. No other type comes out (bigint, numeric,
 * timestamptz, json and arrays are cast to text or float8 in SQL).
 */
export type Row = Record<string, unknown>;

/** The longest deadline: what a timer of Node takes, 24 days. */
export const deadlineMsMax: number = 2_147_483_647;

/** Settings of one call. */
export interface QueryOptions {
  /** Milliseconds until the call rejects with `store_timeout`. Default: the database's own, 30 000. From 1 to {@link deadlineMsMax}. */
  readonly deadlineMs?: number;
}

/** What a statement can be sent to: a database, or a transaction in it. */
export interface Queryable {
  /**
   * Runs one statement and returns its rows, empty if it returns none.
   *
   * @throws SluiceError `store_conflict` (retryable: deadlock, serialization failure or a plan that a migration
   *   outdated; nothing happened), `store_unavailable` (retryable; it may have taken effect), `store_timeout` (may
   *   have taken effect), `closed`, what a routine of ours raised (`raised-errors.ts`), or `invariant_broken` for any
   *   other error of the statement. Of the server's errors, `details.sqlstate` is the state and `cause` the original.
   */
  query(statement: Statement, values?: readonly Value[], options?: QueryOptions): Promise<Row[]>;
}

/** An open database. */
export interface Database extends Queryable {
  /** Which engine answers. */
  readonly engine: "postgres" | "embedded";
  /** True if no other process can have this database open, as with the embedded one: then NOTIFY may be skipped. */
  readonly sole: boolean;
  /** Runs several statements without parameters in one transaction: all or none. Meant for migrations. */
  script(sql: string): Promise<void>;
  /**
   * Runs `work` in one transaction on one connection, at READ COMMITTED. Commits when its promise resolves, rolls
   * back when it rejects and passes that rejection on unchanged. Embedded: other calls wait until it is over, so
   * `work` must not await a call on the database itself (it would wait for its own end, until the deadline).
   */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>;
  /**
   * Subscribes to NOTIFY on a channel; resolves when the subscription is in force. `onLost` is called after each
   * re-connect, when the subscription is in force again: messages may have been missed in between. Resolves to the
   * function that ends the subscription. Neither callback may throw.
   */
  listen(
    channel: string,
    onMessage: (payload: string) => void,
    onLost: () => void,
  ): Promise<() => Promise<void>>;
  /**
   * Waits for calls in flight, then releases what was opened here (a pool that was handed in stays open).
   * Idempotent. Later calls reject with `closed`.
   */
  close(): Promise<void>;
}

/** Something that can be opened as a database, such as `embedded(".sluice")`. */
export interface DatabaseSource {
  /** Opens the database. A source may be opened again after its database was closed. */
  open(): Promise<Database>;
}
