/**
 * Connections to PostgreSQL, checked out of a pool that is ours or the user's. This is the only file that touches
 * the driver's objects, apart from `listener.ts` with the notifications of one of them.
 *
 * Two rules hold here. A connection is given back only after it answered: when a call is abandoned at its deadline,
 * its connection is destroyed. And every connection has an `error` listener from its first checkout on, because an
 * `error` event without one ends the process.
 */
import type { Row, Statement, Value } from "../database.ts";
import { connectionSurvives, deadlinePassed, type FailurePlace, translateError } from "../database-errors.ts";
import { textParserOf } from "../text-parsers.ts";

/** The part of `pg`'s Pool that is used. A pool of the user's own must offer it too. */
export interface PgPool {
  connect(callback: PgCheckout): void;
  on(event: "error", listener: (error: Error) => void): unknown;
  removeListener(event: "error", listener: (error: Error) => void): unknown;
  end(): Promise<void>;
}

/** Receives a connection, and the function that gives it back, or destroys it if called with true. */
export type PgCheckout = (
  error: Error | undefined,
  client: PgClient | undefined,
  release: (destroy?: boolean) => void,
) => void;

/** The part of `pg`'s Client that is used. */
export interface PgClient {
  query(config: PgQuery, callback: (error: Error, result: PgResult) => void): void;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "end", listener: () => void): unknown;
  on(event: "notification", listener: (message: PgNotification) => void): unknown;
  removeListener(event: string, listener: (...values: never[]) => void): unknown;
}

/** A notification as `pg` reports it. */
export interface PgNotification {
  readonly channel: string;
  readonly payload?: string | undefined;
}

interface PgQuery {
  text: string;
  name?: string;
  values?: Value[];
  types?: object;
}

interface PgResult {
  readonly command: string;
  readonly rows: Row[];
}

/** A statement on its way: named if it is to be prepared. */
export interface Call {
  readonly doing: string;
  readonly text: string;
  readonly name?: string;
  readonly values?: readonly Value[];
  readonly deadlineMs: number;
}

/** A connection that is checked out. Exactly one of its two ends must be called, once. */
export interface Connection {
  readonly client: PgClient;
  /** Gives it back to the pool. */
  release(): void;
  /** Closes it. */
  destroy(): void;
}

// `length` is 0 because the driver also reads this as a list of parameter types.
const textParsers = Object.freeze({ length: 0, getTypeParser: textParserOf });

/** What a call came to. */
export interface Answer {
  readonly command: string;
  readonly rows: Row[];
}

/** How to reach connections. */
export interface ConnectionsSettings {
  readonly pool: PgPool;
  /** The server in words: `127.0.0.1:5432`. */
  readonly target: string;
  /** Whether named statements are prepared. False behind a pooler that cannot. */
  readonly prepared: boolean;
}

/** Runs calls on pooled connections. */
export class Connections {
  readonly target: string;
  readonly #pool: PgPool;
  readonly #prepared: boolean;
  readonly #guarded = new WeakSet<PgClient>();

  constructor(settings: ConnectionsSettings) {
    this.#pool = settings.pool;
    this.target = settings.target;
    this.#prepared = settings.prepared;
    this.#pool.on("error", ignoreError);
  }

  /** Runs one call on a connection of its own. */
  run(call: Call): Promise<Row[]> {
    return new Promise((resolve, reject) => {
      let done = false;
      let discard: (() => void) | undefined;
      const place: FailurePlace = { target: this.target, doing: call.doing };
      const timer = setTimeout(() => {
        done = true;
        const why =
          discard === undefined ? "no connection became free" : "the statement may have taken effect";
        discard?.();
        reject(deadlinePassed(place, call.deadlineMs, why));
      }, call.deadlineMs);
      this.#pool.connect((failure, client, release) => {
        if (client === undefined) {
          if (done) return;
          clearTimeout(timer);
          reject(translateError(failure, place));
          return;
        }
        this.#guard(client);
        if (done) {
          release();
          return;
        }
        discard = () => release(true);
        client.query(this.#toQuery(call), (error, result) => {
          if (done) return;
          clearTimeout(timer);
          release(error ? !connectionSurvives(error) : false);
          if (error) reject(translateError(error, place));
          else resolve(result.rows);
        });
      });
    });
  }

  /** Checks a connection out. */
  checkOut(deadlineMs: number, doing: string): Promise<Connection> {
    return new Promise((resolve, reject) => {
      let done = false;
      const place: FailurePlace = { target: this.target, doing };
      const timer = setTimeout(() => {
        done = true;
        reject(deadlinePassed(place, deadlineMs, "no connection became free"));
      }, deadlineMs);
      this.#pool.connect((failure, client, release) => {
        clearTimeout(timer);
        if (client !== undefined) this.#guard(client);
        if (done) {
          if (client !== undefined) release();
        } else if (client === undefined) {
          reject(translateError(failure, place));
        } else {
          resolve({ client, release: () => release(), destroy: () => release(true) });
        }
      });
    });
  }

  /**
   * Runs one call on a connection that is checked out, and only rejects: what becomes of the connection is the
   * holder's business. `lost` in the rejection says that it must be destroyed.
   */
  runOn(connection: Connection, call: Call): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const place: FailurePlace = { target: this.target, doing: call.doing };
      const timer = setTimeout(() => {
        const error = deadlinePassed(place, call.deadlineMs, "the statement may have taken effect");
        reject(new CallFailure(error, true));
      }, call.deadlineMs);
      connection.client.query(this.#toQuery(call), (error, result) => {
        clearTimeout(timer);
        if (error) reject(new CallFailure(translateError(error, place), !connectionSurvives(error)));
        else resolve(result);
      });
    });
  }

  /** Lets go of the pool. Ends it if it is ours. */
  async close(owned: boolean): Promise<void> {
    if (owned) await this.#pool.end();
    // The listener stays on a pool of ours: it may still report sockets that die while it ends.
    else this.#pool.removeListener("error", ignoreError);
  }

  #toQuery(call: Call): PgQuery {
    const query: PgQuery = { text: call.text, types: textParsers };
    if (call.values !== undefined) query.values = call.values as Value[];
    if (call.name !== undefined && this.#prepared) query.name = call.name;
    return query;
  }

  #guard(client: PgClient): void {
    if (this.#guarded.has(client)) return;
    this.#guarded.add(client);
    client.on("error", ignoreError);
  }
}

/** The failure of a call on a held connection. */
export class CallFailure extends Error {
  readonly reason: Error;
  /** Whether the connection is of no more use. */
  readonly lost: boolean;

  constructor(reason: Error, lost: boolean) {
    super(reason.message, { cause: reason });
    this.reason = reason;
    this.lost = lost;
  }
}

/** The call that runs `statement`. */
export function callOf(statement: Statement, values: readonly Value[], deadlineMs: number): Call {
  return { doing: statement.name, name: statement.name, text: statement.text, values, deadlineMs };
}

// Whoever was using the connection gets the error from the call itself; an idle one is replaced by the pool.
function ignoreError(): void {}
