/**
 * What a PostgreSQL server does by itself in the background and PGlite, being one process, does not: vacuum tables
 * that changed much, and write checkpoints, without which the log grows until the database is closed (measured:
 * 340 MB after 160 000 rows were inserted and updated a few times).
 */
import type { Queryable, Statement } from "../database.ts";

/** What maintenance needs of a database. */
export interface MaintainedDatabase extends Pick<Queryable, "query"> {
  script(sql: string): Promise<void>;
}

/** Megabytes of log since the last checkpoint that call for the next. */
const logBytesMax = 64 * 1024 * 1024;

/** Which tables changed enough, by PostgreSQL's own rule for autovacuum with a smaller share: 5 % instead of 20. */
const dueTables: Statement = {
  name: "sluice_maintenance_tables",
  text: `
    SELECT format('%I.%I', schemaname, relname) AS name
    FROM pg_stat_user_tables
    WHERE n_dead_tup > 500 + 0.05 * n_live_tup OR n_mod_since_analyze > 500 + 0.1 * n_live_tup
    ORDER BY n_dead_tup`,
};

const logBytes: Statement = {
  name: "sluice_maintenance_log",
  text: "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn)::float8 AS bytes FROM pg_control_checkpoint()",
};

/** Maintains a database on a timer. Does nothing, and costs nothing, while nobody uses it. */
export class Maintenance {
  readonly #database: MaintainedDatabase;
  readonly #everyMs: number;
  #timer: NodeJS.Timeout | undefined;
  #active = false;
  #stopped = false;

  /** @param everyMs Milliseconds between two rounds; 0 for none at all. */
  constructor(database: MaintainedDatabase, everyMs: number) {
    this.#database = database;
    this.#everyMs = everyMs;
  }

  /** Starts the timer. It does not keep the process alive. */
  start(): void {
    if (this.#everyMs === 0 || this.#stopped) return;
    this.#timer = setTimeout(() => void this.#round(), this.#everyMs);
    this.#timer.unref();
  }

  /** Starts no further round. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Says that the database is in use. */
  noteActivity(): void {
    this.#active = true;
  }

  async #round(): Promise<void> {
    if (this.#active) {
      this.#active = false;
      try {
        await this.#maintain();
      } catch {
        // Closed or crashed meanwhile, which its users are told by their own calls; the next round tries again.
      }
      // Its own statements are no activity.
      this.#active = false;
    }
    this.start();
  }

  async #maintain(): Promise<void> {
    for (const { name } of await this.#database.query(dueTables)) {
      if (this.#stopped) return;
      // One table at a time: other calls have their turn in between.
      await this.#database.script(`VACUUM (ANALYZE) ${String(name)}`);
    }
    const [log] = await this.#database.query(logBytes);
    if (Number(log?.["bytes"]) > logBytesMax) await this.#database.script("CHECKPOINT");
  }
}
