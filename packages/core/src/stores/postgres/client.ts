/** The ways to a database: a pool of `pg`'s kind, or a PGlite. Both are the caller's, and described only as far as they are used. */
import { translateFailure } from "./failures.ts";

/** A statement as `pg` takes it. */
export interface PostgresQuery {
  readonly text: string;
  readonly values: readonly (string | null)[];
  /** The name it is prepared under; without one it is not. */
  readonly name?: string;
}

/** Rows by column name. */
export interface PostgresRows {
  readonly rows: readonly Readonly<Record<string, unknown>>[];
}

/** The part of `pg`'s Pool that is used. */
export interface PostgresPool {
  query(query: PostgresQuery): Promise<PostgresRows>;
  /** Several statements at once, without values. */
  query(text: string): Promise<unknown>;
  on?(event: "error", listener: (error: Error) => void): unknown;
  removeListener?(event: "error", listener: (error: Error) => void): unknown;
}

/** The part of PGlite that is used. */
export interface EmbeddedPostgres {
  query(text: string, values: (string | null)[]): Promise<{ readonly rows: unknown[] }>;
  exec(text: string): Promise<unknown>;
}

/** A database to keep limits in. */
export type PostgresClient = PostgresPool | EmbeddedPostgres;

/** Whether `value` can serve as a {@link PostgresClient}. */
export function isPostgresClient(value: unknown): value is PostgresClient {
  if (typeof value !== "object" || value === null) return false;
  return typeof (value as Partial<PostgresPool>).query === "function";
}

/** A statement with its place among the prepared ones. */
export interface NamedStatement {
  readonly name: string;
  readonly text: string;
}

/** One way of talking to both kinds. Whatever fails rejects with a `SluiceError` of family `store`. */
export class Session {
  readonly #client: PostgresClient;
  readonly #prepared: boolean;

  constructor(client: PostgresClient, prepared: boolean) {
    this.#client = client;
    this.#prepared = prepared;
    // An idle connection that dies is replaced by the pool; without a listener its error would end the process.
    if (!isEmbedded(client)) client.on?.("error", ignoreError);
  }

  /** Runs one statement, once. */
  async query(statement: NamedStatement, values: readonly (string | null)[]): Promise<PostgresRows["rows"]> {
    try {
      if (isEmbedded(this.#client)) {
        const { rows } = await this.#client.query(statement.text, [...values]);
        return rows as PostgresRows["rows"];
      }
      const { text, name } = statement;
      const query = this.#prepared ? { text, values, name } : { text, values };
      return (await this.#client.query(query)).rows;
    } catch (error) {
      throw translateFailure(error, statement.name);
    }
  }

  /** Runs several statements in one transaction. */
  async script(text: string): Promise<void> {
    try {
      if (isEmbedded(this.#client)) await this.#client.exec(text);
      else await this.#client.query(text);
    } catch (error) {
      throw translateFailure(error, "migration");
    }
  }

  /** Lets go of the client, which stays open. */
  release(): void {
    if (!isEmbedded(this.#client)) this.#client.removeListener?.("error", ignoreError);
  }
}

function isEmbedded(client: PostgresClient): client is EmbeddedPostgres {
  return typeof (client as Partial<EmbeddedPostgres>).exec === "function";
}

// Whoever was using the connection gets the error from the call itself.
function ignoreError(): void {}
