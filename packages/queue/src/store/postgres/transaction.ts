import { SluiceError } from "@sluice/core";
import type { Queryable, QueryOptions, Row, Statement, Value } from "../database.ts";
import type { StatementNames } from "../statement-names.ts";
import { type Call, CallFailure, type Connection, type Connections, callOf } from "./connections.ts";

/**
 * One transaction on a connection of its own. The connection goes back to the pool only after COMMIT or ROLLBACK was
 * answered; in every other case it is destroyed, and the server rolls back.
 */
export class Transaction implements Queryable {
  readonly #connections: Connections;
  readonly #names: StatementNames;
  readonly #deadlineMs: number;
  #connection: Connection | undefined;
  #over = false;
  #lost = false;
  /** The first failure of a statement: after it the server refuses all others, and turns COMMIT into ROLLBACK. */
  #failure: Error | undefined;
  // The driver takes one query at a time on a connection, so those of a careless `Promise.all` queue here.
  #last: Promise<unknown> = Promise.resolve();

  constructor(connections: Connections, names: StatementNames, deadlineMs: number) {
    this.#connections = connections;
    this.#names = names;
    this.#deadlineMs = deadlineMs;
  }

  /** Runs `work` between BEGIN and COMMIT or ROLLBACK. To be called once. */
  async run<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    this.#connection = await this.#connections.checkOut(this.#deadlineMs, "BEGIN");
    try {
      await this.#send(this.#command("BEGIN ISOLATION LEVEL READ COMMITTED"));
      const result = await work(this);
      this.#over = true;
      await this.#commit();
      return result;
    } catch (error) {
      this.#over = true;
      await this.#rollBack();
      throw error;
    } finally {
      if (this.#lost) this.#connection.destroy();
      else this.#connection.release();
    }
  }

  async query(statement: Statement, values: readonly Value[] = [], options?: QueryOptions): Promise<Row[]> {
    if (this.#over) throw new SluiceError("closed", `${statement.name}: the transaction is over`);
    this.#names.check(statement);
    const { rows } = await this.#send(callOf(statement, values, options?.deadlineMs ?? this.#deadlineMs));
    return rows;
  }

  async #commit(): Promise<void> {
    const { command } = await this.#send(this.#command("COMMIT"));
    // The work swallowed the failure of a statement and meant to commit, but the server could only roll back.
    if (command === "ROLLBACK")
      throw this.#failure ?? new SluiceError("store_unavailable", "COMMIT rolled back");
  }

  async #rollBack(): Promise<void> {
    if (this.#lost) return;
    // Failure to roll back means that the connection is destroyed, which rolls back too.
    await this.#send(this.#command("ROLLBACK")).catch(() => {
      this.#lost = true;
    });
  }

  #send(call: Call): Promise<{ command: string; rows: Row[] }> {
    const connection = this.#connection as Connection;
    const answer = this.#last.then(() => {
      if (this.#lost) throw new CallFailure(this.#failure as Error, true);
      return this.#connections.runOn(connection, call);
    });
    const settled = answer.catch((failure: unknown) => {
      const { reason, lost } =
        failure instanceof CallFailure ? failure : new CallFailure(failure as Error, true);
      this.#failure ??= reason;
      this.#lost ||= lost;
      throw reason;
    });
    this.#last = settled.catch(() => {});
    return settled;
  }

  #command(text: string): Call {
    return { doing: text, text, deadlineMs: this.#deadlineMs };
  }
}
