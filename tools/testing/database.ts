/** PostgreSQL for a test file: the run's server, and a schema name that no other file and no earlier run has used. */
import { randomBytes } from "node:crypto";
import pg from "pg";
import { afterAll, inject } from "vitest";

const nameLengthMax = 40;

/** What a test file needs to open the database. */
export interface TestDatabase {
  readonly url: string;
  /** A schema name for this file alone, `t_<label>_<random>`; not created yet, dropped with all it holds after the file. */
  readonly schema: string;
}

/** Connection string of the run's PostgreSQL server. */
export function databaseUrl(): string {
  return inject("databaseUrl");
}

/** A fresh schema name; the caller sees to its removal (`freshDatabase` does so by itself). */
export function freshSchema(label: string): string {
  const stem = label
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "_")
    .slice(0, nameLengthMax);
  return `t_${stem}_${randomBytes(4).toString("hex")}`;
}

/** Gives a test file (or a describe block) a schema of its own. Call it at the top level of the file or block. */
export function freshDatabase(label: string): TestDatabase {
  const database = { url: databaseUrl(), schema: freshSchema(label) };
  afterAll(() => dropSchema(database));
  return database;
}

/** Drops a schema and everything in it, waiting for locks at most ten seconds. */
export async function dropSchema({ url, schema }: TestDatabase): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("set lock_timeout = '10s'");
    await client.query(`drop schema if exists ${pg.escapeIdentifier(schema)} cascade`);
  } finally {
    await client.end();
  }
}
