import { SluiceError } from "@sluice/core";
import type { Queryable, QueryOptions, Row, Statement, Value } from "../database.ts";
import { deadlinePassed, type FailurePlace } from "../database-errors.ts";
import type { StatementNames } from "../statement-names.ts";
import { callEngine, toParameters, toRows } from "./call.ts";
import type { Asked, Engine } from "./engine.ts";
import type { EngineAnswer } from "./protocol.ts";
import type { ExclusiveTurn } from "./turns.ts";

/** What a transaction needs besides its turn. */
export interface TransactionSettings {
  readonly names: StatementNames;
  readonly target: string;
  readonly deadlineMs: number;
}

/**
 * One transaction, alone with the engine. It gives up its turn as soon as COMMIT or ROLLBACK is on its way: what
 * comes after is asked later, hence runs later. Work that is idle for longer than the deadline would block everybody,
 * so it is rolled back.
 */
export class EmbeddedTransaction implements Queryable {
  readonly #turn: ExclusiveTurn;
  readonly #settings: TransactionSettings;
  #over = false;
  #open = 0;
  #failure: Error | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #giveUp: (error: SluiceError) => void = () => {};

  constructor(turn: ExclusiveTurn, settings: TransactionSettings) {
    this.#turn = turn;
    this.#settings = settings;
  }

  /** Runs `work` between BEGIN and COMMIT or ROLLBACK. To be called once. */
  async run<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    const idleTooLong = new Promise<never>((_resolve, reject) => {
      this.#giveUp = reject;
    });
    try {
      await this.#command("BEGIN ISOLATION LEVEL READ COMMITTED");
      const result = await Promise.race([work(this), idleTooLong]);
      this.#over = true;
      const committed = this.#command("COMMIT");
      this.#turn.end();
      const { command } = await committed;
      // The work swallowed the failure of a statement and meant to commit, but the engine could only roll back.
      if (command === "ROLLBACK")
        throw this.#failure ?? new SluiceError("store_unavailable", "COMMIT rolled back");
      return result;
    } catch (error) {
      if (!this.#over) {
        this.#over = true;
        // Its answer is of no interest: it fails only with the engine, and then there is nothing to roll back.
        this.#command("ROLLBACK").catch(() => {});
      }
      throw error;
    } finally {
      clearTimeout(this.#idleTimer);
      this.#turn.end();
    }
  }

  async query(statement: Statement, values: readonly Value[] = [], options?: QueryOptions): Promise<Row[]> {
    if (this.#over) throw new SluiceError("closed", `${statement.name}: the transaction is over`);
    this.#settings.names.check(statement);
    const { name, text } = statement;
    const parameters = toParameters(values);
    const answer = await this.#send(
      (engine) => engine.statement(name, text, parameters),
      name,
      options?.deadlineMs,
    );
    return toRows(answer);
  }

  #command(sql: string): Promise<EngineAnswer> {
    return this.#send((engine) => engine.script(sql), sql);
  }

  async #send(
    ask: (engine: Engine) => Asked,
    doing: string,
    deadlineMs: number = this.#settings.deadlineMs,
  ): Promise<EngineAnswer> {
    const place: FailurePlace = { target: this.#settings.target, doing };
    clearTimeout(this.#idleTimer);
    this.#open += 1;
    try {
      return await callEngine({ place, deadlineMs, ask, enter: (begin) => this.#enter(begin) });
    } catch (error) {
      this.#failure ??= error as Error;
      throw error;
    } finally {
      this.#open -= 1;
      if (this.#open === 0 && !this.#over) this.#startIdleTimer();
    }
  }

  // The turn is ours already.
  #enter(begin: (engine: Engine) => Promise<unknown>): () => boolean {
    begin(this.#turn.engine).catch(() => {});
    return () => false;
  }

  #startIdleTimer(): void {
    const { target, deadlineMs } = this.#settings;
    this.#idleTimer = setTimeout(() => {
      const why = "the transaction was idle and is rolled back";
      this.#giveUp(deadlinePassed({ target, doing: "transaction" }, deadlineMs, why));
    }, deadlineMs);
  }
}
