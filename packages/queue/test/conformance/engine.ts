import { createHash } from "node:crypto";
import type { Database, DatabaseSource, Statement } from "../../src/store/database.ts";
import type { Sql } from "../invariants.ts";

/** An engine the suite is run over. */
export interface EngineUnderTest {
  readonly name: "postgres" | "embedded";
  /** A schema of this file's own. */
  readonly schema: string;
  /** What an app is opened on. */
  database(): string | DatabaseSource;
  /** A look into the same database, past the apps. */
  readonly sql: Sql;
  /** Where the caller's own clients connect to; undefined when none can. */
  readonly url: string | undefined;
  close(): Promise<void>;
}

/** A source that hands out one open database again and again: apps come and go, what they stored stays. */
export function keptOpen(database: Database): DatabaseSource {
  const shared: Database = {
    engine: database.engine,
    sole: database.sole,
    query: (statement, values, options) => database.query(statement, values, options),
    script: (sql) => database.script(sql),
    transaction: (work) => database.transaction(work),
    listen: (channel, onMessage, onLost) => database.listen(channel, onMessage, onLost),
    close: () => Promise.resolve(),
  };
  return { open: () => Promise.resolve(shared) };
}

/** Statements by text, for a look into a database through its own port. */
export function sqlOf(database: Database): Sql {
  return (text) => database.query(statement(text));
}

function statement(text: string): Statement {
  return { name: `test_${createHash("sha256").update(text).digest("hex").slice(0, 40)}`, text };
}
