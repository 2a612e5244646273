/** PostgreSQL as a {@link Database}: a pool for calls, one more connection for LISTEN. */
import {
  boolean,
  durationMs,
  integer,
  type ResolvedOptions,
  resolveOptions,
  SluiceError,
  string,
} from "@sluice/core";
import pg from "pg";
import {
  type Database,
  deadlineMsMax,
  type Queryable,
  type QueryOptions,
  type Row,
  type Statement,
  type Value,
} from "./database.ts";
import { isServerError } from "./database-errors.ts";
import { Connections, callOf, type PgPool } from "./postgres/connections.ts";
import { Listener } from "./postgres/listener.ts";
import { Transaction } from "./postgres/transaction.ts";
import { StatementNames } from "./statement-names.ts";

export type { PgCheckout, PgClient, PgNotification, PgPool } from "./postgres/connections.ts";

/** Settings of a PostgreSQL database. */
export interface PostgresOptions {
  /** Connections for calls, besides the one for LISTEN. Default 8, 1 to 1000. Not used with a pool of the user's. */
  readonly max?: number;
  /** Milliseconds a call may take, including the wait for a connection. Default 30 000, at least 1. */
  readonly deadlineMs?: number;
  /** Milliseconds to establish a connection. Default 5000, at least 1. Not used with a pool of the user's. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds between two checks that the listening connection is alive. Default 30 000, at least 10. */
  readonly heartbeatMs?: number;
  /** `application_name` in pg_stat_activity. Default "sluice". Not used with a pool of the user's. */
  readonly applicationName?: string;
  /** Whether to prepare named statements. Default true; false behind a pooler that cannot keep them. */
  readonly prepared?: boolean;
}

const optionSpec = {
  max: integer({ default: 8, min: 1, max: 1000 }),
  deadlineMs: durationMs({ default: 30_000, min: 1, max: deadlineMsMax }),
  connectTimeoutMs: durationMs({ default: 5000, min: 1, max: deadlineMsMax }),
  heartbeatMs: durationMs({ default: 30_000, min: 10, max: deadlineMsMax }),
  applicationName: string({ default: "sluice" }),
  prepared: boolean({ default: true }),
} as const;

type Resolved = ResolvedOptions<typeof optionSpec>;

/** The oldest server that is supported, as `server_version_num` counts. */
const oldestServer = 150_000;

/** Scripts are migrations, which may rewrite tables: they get this long at least. */
const scriptDeadlineMs = 600_000;

/**
 * Opens a PostgreSQL database, version 15 or later.
 *
 * @param source A connection string, `postgres://user:password@host:port/database`, or a Pool of `pg`'s kind. The
 *   Pool stays the caller's: it is not ended on close, an `error` listener is on it so that a lost idle connection does
 *   not end the process, and one of its connections is held while anyone listens, so it needs at least two.
 * @throws SluiceError `store_unavailable` if the server cannot be reached or refuses, naming host and port;
 *   `database_too_old`; `invalid_option`.
 */
export async function openPostgres(
  source: string | PgPool,
  options: PostgresOptions = {},
): Promise<Database> {
  const resolved = resolveOptions("postgres", optionSpec, options);
  const owned = typeof source === "string" ? createPool(source, resolved) : undefined;
  const pool = owned?.pool ?? (source as PgPool);
  const target = owned?.target ?? "PostgreSQL";
  const connections = new Connections({ pool, target, prepared: resolved.prepared });
  const database = new PostgresDatabase(connections, resolved, owned !== undefined);
  try {
    await checkServer(connections, resolved.deadlineMs);
  } catch (error) {
    await database.close();
    throw error;
  }
  return database;
}

class PostgresDatabase implements Database {
  readonly engine = "postgres";
  readonly sole = false;
  readonly #connections: Connections;
  readonly #listener: Listener;
  readonly #names = new StatementNames();
  readonly #deadlineMs: number;
  readonly #owned: boolean;
  readonly #inFlight = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  constructor(connections: Connections, options: Resolved, owned: boolean) {
    this.#connections = connections;
    this.#deadlineMs = options.deadlineMs;
    this.#owned = owned;
    this.#listener = new Listener(connections, {
      deadlineMs: options.deadlineMs,
      heartbeatMs: options.heartbeatMs,
    });
  }

  async query(statement: Statement, values: readonly Value[] = [], options?: QueryOptions): Promise<Row[]> {
    if (this.#closing !== undefined) throw closedError(statement.name);
    this.#names.check(statement);
    return this.#track(
      this.#connections.run(callOf(statement, values, options?.deadlineMs ?? this.#deadlineMs)),
    );
  }

  async script(sql: string): Promise<void> {
    if (this.#closing !== undefined) throw closedError("script");
    // Several statements in one simple query are one transaction by the protocol; no BEGIN is needed.
    const deadlineMs = Math.max(this.#deadlineMs, scriptDeadlineMs);
    await this.#track(this.#connections.run({ doing: "script", text: sql, deadlineMs }));
  }

  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) return Promise.reject(closedError("transaction"));
    const transaction = new Transaction(this.#connections, this.#names, this.#deadlineMs);
    return this.#track(transaction.run(work));
  }

  listen(
    channel: string,
    onMessage: (payload: string) => void,
    onLost: () => void,
  ): Promise<() => Promise<void>> {
    if (this.#closing !== undefined) return Promise.reject(closedError(`LISTEN ${channel}`));
    return this.#listener.subscribe(channel, onMessage, onLost);
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #finish(): Promise<void> {
    await Promise.allSettled([...this.#inFlight, this.#listener.close()]);
    await this.#connections.close(this.#owned);
  }

  #track<T>(call: Promise<T>): Promise<T> {
    this.#inFlight.add(call);
    const forget = (): void => {
      this.#inFlight.delete(call);
    };
    call.then(forget, forget);
    return call;
  }
}

function closedError(doing: string): SluiceError {
  return new SluiceError("closed", `${doing}: the database was closed`);
}

/** Our own pool, and where it connects to, in words without the password. */
function createPool(connectionString: string, options: Resolved): { pool: PgPool; target: string } {
  const { connectTimeoutMs } = options;
  // The pool would apply its own timeout to waiting for a free connection as well, which is the call's deadline here.
  class PooledClient extends pg.Client {
    constructor(config?: pg.ClientConfig) {
      super({ ...config, connectionTimeoutMillis: connectTimeoutMs });
    }
  }
  try {
    if (!/^postgres(ql)?:\/\//i.test(connectionString)) throw new Error("unknown scheme");
    // Never connected: only to have the driver work out host and port, environment variables included.
    const { host, port } = new pg.Client({ connectionString });
    const pool = new pg.Pool({
      connectionString,
      max: options.max + 1,
      application_name: options.applicationName,
      keepAlive: true,
      allowExitOnIdle: true,
      idleTimeoutMillis: 30_000,
      onConnect: watchClient,
      Client: PooledClient,
    });
    return { pool, target: host.startsWith("/") ? host : `${host}:${port}` };
  } catch {
    // The cause is left out: the driver's error holds the string, and with it the password.
    const expected = "expected a connection string such as postgres://user:password@host:5432/database";
    throw new SluiceError("invalid_option", `database: ${expected}, got another string`);
  }
}

/**
 * Has the server give up a statement when its client has gone: without this, one that was abandoned at its deadline
 * while it waited for a lock would still run, and commit, once it gets the lock. Not every platform can (it needs
 * POLLRDHUP), and then it stays as it is.
 */
async function watchClient(client: pg.ClientBase): Promise<void> {
  await client.query("SET client_connection_check_interval = '2s'").catch((error: unknown) => {
    if (!isServerError(error)) throw error;
  });
}

const serverVersion: Statement = {
  name: "sluice_server_version",
  text: "SELECT current_setting('server_version_num')::int4 AS number, current_setting('server_version') AS version",
};

async function checkServer(connections: Connections, deadlineMs: number): Promise<void> {
  const rows = await connections.run({ ...callOf(serverVersion, [], deadlineMs), doing: "connecting" });
  const { number, version } = rows[0] as { number: number; version: string };
  if (number >= oldestServer) return;
  const message = `${connections.target}: PostgreSQL ${version} is too old, ${oldestServer / 10_000} or later is needed`;
  throw new SluiceError("database_too_old", message, { details: { version } });
}
