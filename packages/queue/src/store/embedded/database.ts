/**
 * The embedded database: one engine at a time, calls in order, transactions alone.
 *
 * When an engine ends (a crash, or a statement that did not end after its deadline), calls in flight reject with
 * `store_unavailable`. If the database lies on disk the next call, or a listener, starts a new engine on it: it
 * recovers as PostgreSQL does after a crash, and no acknowledged row is lost. In memory there is nothing to recover,
 * and every later call rejects.
 */
import { SluiceError } from "@sluice/core";
import type { Database, Queryable, QueryOptions, Row, Statement, Value } from "../database.ts";
import { StatementNames } from "../statement-names.ts";
import { callEngine, toParameters, toRows } from "./call.ts";
import type { DataDirectory } from "./data-directory.ts";
import { type Asked, Engine } from "./engine.ts";
import { Maintenance } from "./maintenance.ts";
import type { EngineAnswer } from "./protocol.ts";
import { Subscriptions } from "./subscriptions.ts";
import { EmbeddedTransaction } from "./transaction.ts";
import { Turns } from "./turns.ts";

/** Everything an embedded database is made of. */
export interface EmbeddedSettings {
  /** Where it lies; undefined keeps it in memory. */
  readonly directory: DataDirectory | undefined;
  /** The database in words, for messages. */
  readonly target: string;
  readonly deadlineMs: number;
  readonly stuckMs: number;
  readonly maintenanceMs: number;
  /** Called when it has been closed, and nothing is written any more. */
  onClosed(): void;
}

/** Scripts are migrations, which may rewrite tables: they get this long at least. */
const scriptDeadlineMs = 600_000;

/** Pause before an engine is started again for the listeners' sake, after one could not be started. */
const restartPauseMs = 1000;

/** PGlite in a thread, as a {@link Database}. */
export class EmbeddedDatabase implements Database {
  readonly engine = "embedded";
  readonly sole = true;
  readonly #settings: EmbeddedSettings;
  readonly #turns = new Turns(() => void this.#startEngine());
  readonly #names = new StatementNames();
  readonly #subscriptions = new Subscriptions();
  readonly #maintenance: Maintenance;
  #engine: Engine | undefined;
  #starting: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #closed = false;
  #lost: SluiceError | undefined;

  /** Starts the first engine. Rejects as `Engine.start` does. */
  static async open(settings: EmbeddedSettings): Promise<EmbeddedDatabase> {
    const database = new EmbeddedDatabase(settings);
    await database.#bootEngine();
    database.#maintenance.start();
    return database;
  }

  private constructor(settings: EmbeddedSettings) {
    this.#settings = settings;
    this.#maintenance = new Maintenance(
      {
        query: (statement) => this.query(statement, [], { deadlineMs: scriptDeadlineMs }),
        script: (sql) => this.script(sql),
      },
      settings.maintenanceMs,
    );
  }

  async query(statement: Statement, values: readonly Value[] = [], options?: QueryOptions): Promise<Row[]> {
    this.#names.check(statement);
    const { name, text } = statement;
    const parameters = toParameters(values);
    this.#maintenance.noteActivity();
    const deadlineMs = options?.deadlineMs ?? this.#settings.deadlineMs;
    return toRows(await this.#call((engine) => engine.statement(name, text, parameters), name, deadlineMs));
  }

  async script(sql: string): Promise<void> {
    const deadlineMs = Math.max(this.#settings.deadlineMs, scriptDeadlineMs);
    await this.#call((engine) => engine.script(sql), "script", deadlineMs);
  }

  async transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    this.#checkUsable("transaction");
    const { target, deadlineMs } = this.#settings;
    this.#maintenance.noteActivity();
    const turn = await this.#turns.enterAlone({ target, doing: "BEGIN" }, deadlineMs);
    return new EmbeddedTransaction(turn, { names: this.#names, target, deadlineMs }).run(work);
  }

  async listen(
    channel: string,
    onMessage: (payload: string) => void,
    onLost: () => void,
  ): Promise<() => Promise<void>> {
    const remove = this.#subscriptions.add(channel, onMessage, onLost);
    const unlisten = async (): Promise<void> => {
      if (!remove() || this.#closing !== undefined) return;
      this.#engine?.hold(this.#subscriptions.channels.length > 0);
      const sql = `UNLISTEN ${quoted(channel)}`;
      // Only the thread's attention is at stake: without subscribers its messages go nowhere.
      await this.#call((engine) => engine.script(sql), sql, this.#settings.deadlineMs).catch(() => {});
    };
    try {
      const sql = `LISTEN ${quoted(channel)}`;
      await this.#call((engine) => engine.script(sql), sql, this.#settings.deadlineMs);
      this.#engine?.hold(true);
      return unlisten;
    } catch (error) {
      remove();
      throw error;
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  /** For the exit of the process: see {@link Engine.freeze}. True if nothing will be written any more. */
  freeze(waitMs: number): boolean {
    return this.#starting === undefined && (this.#engine?.freeze(waitMs) ?? true);
  }

  /** Ends everything at once: another process has taken the data directory over. */
  abandon(error: SluiceError): void {
    this.#lost = error;
    void this.#engine?.kill("the data directory was taken over");
  }

  async #call(ask: (engine: Engine) => Asked, doing: string, deadlineMs: number): Promise<EngineAnswer> {
    this.#checkUsable(doing);
    const place = { target: this.#settings.target, doing };
    return callEngine({ place, deadlineMs, ask, enter: (begin, refuse) => this.#turns.enter(begin, refuse) });
  }

  #checkUsable(doing: string): void {
    if (this.#closing !== undefined) throw new SluiceError("closed", `${doing}: the database was closed`);
    if (this.#lost !== undefined) throw this.#lost;
  }

  async #finish(): Promise<void> {
    this.#maintenance.stop();
    await this.#turns.idle();
    await this.#starting?.catch(() => {});
    this.#closed = true;
    this.#subscriptions.clear();
    await this.#engine?.stop();
    this.#settings.onClosed();
  }

  /** Starts an engine for those who wait, once for all of them. */
  async #startEngine(): Promise<void> {
    // The timer below may come too late, when the directory is no longer ours.
    if (this.#starting !== undefined || this.#closed) return;
    this.#starting = this.#bootEngine();
    try {
      await this.#starting;
      this.#subscriptions.tellLost();
    } catch (error) {
      this.#turns.refuseAll(error);
      if (this.#subscriptions.channels.length > 0) {
        setTimeout(() => void this.#startEngine(), restartPauseMs).unref();
      }
    } finally {
      this.#starting = undefined;
    }
  }

  async #bootEngine(): Promise<void> {
    const { directory, target, stuckMs } = this.#settings;
    const engine = await Engine.start(
      { directory: directory?.databasePath, fresh: directory?.fresh ?? true, target, stuckMs },
      {
        onNotification: (channel, payload) => this.#subscriptions.deliver(channel, payload),
        onDeath: (error) => this.#onDeath(error),
      },
    );
    directory?.markCreated();
    const { channels } = this.#subscriptions;
    for (const channel of channels) await engine.script(`LISTEN ${quoted(channel)}`).answer;
    engine.hold(channels.length > 0);
    this.#engine = engine;
    this.#turns.open(engine);
  }

  #onDeath(error: SluiceError): void {
    this.#engine = undefined;
    if (this.#settings.directory === undefined) this.#lost ??= error;
    this.#turns.shut();
    if (this.#lost !== undefined) this.#turns.refuseAll(this.#lost);
    else if (this.#closing === undefined && this.#subscriptions.channels.length > 0) void this.#startEngine();
  }
}

function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}
