import { createHash } from "node:crypto";
import { isSluiceError, SluiceError } from "@sluice/core";
import type { Database, Statement } from "./database.ts";
import { migrations, routines } from "./sql.generated.ts";

/** The schema version this release works with. */
export const schemaVersion: number = migrations.at(-1)!.version;

/** What the routines of this release are, in one word: they are created anew when the database holds others. */
const routinesDigest = createHash("sha256").update(JSON.stringify(routines)).digest("hex").slice(0, 16);

/** Quotes an identifier. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** What a database holds. */
interface Installed {
  readonly version: number;
  readonly routines: string;
}

/**
 * Brings the schema up to this release: forward only, any number of processes at once. Each migration is one
 * transaction under an advisory lock that first looks whether another process was faster.
 * @throws `schema_too_new` when a newer release has migrated the database.
 */
export async function migrate(database: Database, schema: string): Promise<void> {
  for (;;) {
    const installed = await readInstalled(database, schema);
    if (installed.version > schemaVersion) {
      throw new SluiceError(
        "schema_too_new",
        `schema ${quoteName(schema)} is at version ${installed.version}, this release knows up to ${schemaVersion}: upgrade @sluice/queue`,
        { details: { schema, found: installed.version, known: schemaVersion } },
      );
    }
    if (installed.version === schemaVersion && installed.routines === routinesDigest) return;
    try {
      await database.script(nextScript(installed, schema));
    } catch (error) {
      if (!isSluiceError(error, "store_conflict")) throw error;
    }
  }
}

async function readInstalled(database: Database, schema: string): Promise<Installed> {
  const exists: Statement = {
    name: "sluice_installed",
    text: "SELECT to_regclass($1::text) IS NOT NULL AS installed",
  };
  const table = `${quoteName(schema)}.installed`;
  const [row] = await database.query(exists, [table]);
  if (row?.["installed"] !== true) return { version: 0, routines: "" };
  const [found] = await database.query({
    name: `sluice_version_${digest(schema)}`,
    text: `SELECT version::integer AS version, routines FROM ${table}`,
  });
  return found === undefined
    ? { version: 0, routines: "" }
    : { version: Number(found["version"]), routines: String(found["routines"]) };
}

/** A short word for a schema, for the names of its prepared statements. */
export function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}

/** A routine whose result changed shape cannot be replaced in place. */
// The limit store of @sluice/core may keep its own in the same schema; the names of those end in a digest.
const dropRoutines = `
    DO $drop$ DECLARE v_routine regprocedure; BEGIN
      FOR v_routine IN SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname !~ '_[0-9a-f]{8}$' LOOP
        EXECUTE 'DROP FUNCTION ' || v_routine || ' CASCADE';
      END LOOP;
    END $drop$;`;

/** One step forward: the next migration, or else the routines. */
function nextScript(installed: Installed, schema: string): string {
  const next = migrations.find((migration) => migration.version > installed.version);
  const body =
    next === undefined ? `${dropRoutines}\n${routines.map((routine) => routine.text).join("\n")}` : next.text;
  const version = next?.version ?? installed.version;
  const held = next === undefined ? routinesDigest : "";
  return `
    SELECT pg_advisory_xact_lock(hashtextextended(${quoteText(`sluice:${schema}`)}, 0));
    CREATE SCHEMA IF NOT EXISTS ${quoteName(schema)};
    SET LOCAL search_path TO ${quoteName(schema)}, pg_temp;
    SET LOCAL client_min_messages TO warning;
    CREATE TABLE IF NOT EXISTS installed (version integer NOT NULL, routines text NOT NULL, at timestamptz NOT NULL DEFAULT now());
    DO $guard$ BEGIN
      IF COALESCE((SELECT max(version) FROM installed), 0) <> ${installed.version}
        OR COALESCE((SELECT max(i.routines) FROM installed i), '') <> ${quoteText(installed.routines)} THEN
        RAISE EXCEPTION 'another process has migrated meanwhile' USING ERRCODE = '40001';
      END IF;
    END $guard$;
    ${body}
    DELETE FROM installed;
    INSERT INTO installed (version, routines) VALUES (${version}, ${quoteText(held)});
  `;
}
