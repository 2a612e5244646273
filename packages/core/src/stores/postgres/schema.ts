import { createHash } from "node:crypto";
import { isSluiceError, SluiceError } from "../../base/errors.ts";
import type { NamedStatement, Session } from "./client.ts";
import { migrations, routines } from "./sql.generated.ts";

/** The schema version this release works with. */
const schemaVersion = migrations.at(-1)!.version;

/** The oldest server that is supported, as `server_version_num` counts. */
const oldestServer = 150_000;

/**
 * What the routines of this release are, in one word. It is part of their names, so that releases work side by side in one database
 * while a new one is rolled out.
 */
const digest = shortDigest(JSON.stringify(routines));

/** Where limits are kept. */
export interface SchemaSettings {
  readonly schema: string;
  /** Whether the table of keys is unlogged. */
  readonly unlogged: boolean;
}

/** The statements of a schema. */
export interface Statements {
  readonly ask: NamedStatement;
  /** The same, for rules that the database may not know yet. */
  readonly learnAndAsk: NamedStatement;
}

/** The statements for a schema, under names that fit its routines. */
export function statementsOf(schema: string): Statements {
  const own = (routine: string): string => `"${schema}".${routine}_${digest}`;
  const rules = "$2::text::bigint[]";
  const ask = `${own("limit_ask")}($1::text::text[], ${rules}, $3::text::bigint[], $4::text::boolean, $5::text::bigint)`;
  const suffix = `${digest}_${shortDigest(schema)}`;
  return {
    ask: { name: `sluice_limit_ask_${suffix}`, text: `SELECT ${ask} AS answer` },
    learnAndAsk: {
      name: `sluice_limit_learn_${suffix}`,
      text: `SELECT ${own("limit_learn")}(${rules}) AS learnt, ${ask} AS answer`,
    },
  };
}

/** What a database holds. */
interface Installed {
  readonly version: number;
  /** Whether the routines of this release are there. */
  readonly ready: boolean;
}

/**
 * Brings the schema up to this release: forward only, any number of processes at once. Each attempt is one transaction under an
 * advisory lock that first looks whether another process was faster.
 * @throws `schema_too_new`, `database_too_old`, `already_declared` when the table is logged and should not be, or the reverse.
 */
export async function migrate(session: Session, settings: SchemaSettings): Promise<void> {
  for (;;) {
    const installed = await readInstalled(session, settings);
    if (installed.version > schemaVersion) {
      const { schema } = settings;
      throw new SluiceError(
        "schema_too_new",
        `schema "${schema}": its limits are at version ${installed.version}, this release knows up to ${schemaVersion}: upgrade @sluice/core`,
        { details: { schema, found: installed.version, known: schemaVersion } },
      );
    }
    if (installed.version === schemaVersion && installed.ready) return;
    try {
      await session.script(nextScript(installed, settings));
    } catch (error) {
      if (!isSluiceError(error, "store_conflict")) throw error;
    }
  }
}

async function readInstalled(session: Session, settings: SchemaSettings): Promise<Installed> {
  const { schema, unlogged } = settings;
  const look: NamedStatement = {
    name: "sluice_limit_look",
    text: `SELECT current_setting('server_version_num') AS server, c.relpersistence::text AS kind,
      to_regprocedure($2::text) IS NOT NULL AS ready
      FROM (SELECT to_regclass($1::text) AS id) t LEFT JOIN pg_class c ON c.oid = t.id`,
  };
  const routine = `"${schema}".limit_ask_${digest}(text[], bigint[], bigint[], boolean, bigint)`;
  const [found] = await session.query(look, [`"${schema}".limit_keys`, routine]);
  requireServer(Number(found?.["server"]));
  if (typeof found?.["kind"] !== "string") return { version: 0, ready: false };
  const isUnlogged = found["kind"] === "u";
  if (isUnlogged !== unlogged) {
    throw new SluiceError(
      "already_declared",
      `schema "${schema}": its limits are ${isUnlogged ? "un" : ""}logged already (option losesBudgetsOnCrash): keep to that, or use another schema`,
      { details: { schema, unlogged: isUnlogged } },
    );
  }
  const version: NamedStatement = {
    name: `sluice_limit_version_${shortDigest(schema)}`,
    text: `SELECT max(version)::text AS version FROM "${schema}".limit_installed`,
  };
  const [row] = await session.query(version, []);
  return { version: Number(row?.["version"] ?? 0), ready: found["ready"] === true };
}

function requireServer(version: number): void {
  if (version >= oldestServer) return;
  const major = Math.floor(version / 10_000);
  throw new SluiceError(
    "database_too_old",
    `PostgreSQL ${major} is too old, ${oldestServer / 10_000} or later is needed`,
    { details: { version: major } },
  );
}

/** The way from what is installed to this release, as one transaction. */
function nextScript({ version, ready }: Installed, { schema, unlogged }: SchemaSettings): string {
  const pending = migrations.filter((migration) => migration.version > version);
  const steps = pending.map(({ text }) =>
    unlogged ? text.replace("CREATE TABLE limit_keys", "CREATE UNLOGGED TABLE limit_keys") : text,
  );
  return `
    SELECT pg_advisory_xact_lock(hashtextextended('sluice:${schema}', 0));
    DO $create$ BEGIN
      -- Not IF NOT EXISTS, which asks for the right to create one even when it is there.
      IF to_regnamespace('"${schema}"') IS NULL THEN CREATE SCHEMA "${schema}"; END IF;
    END $create$;
    SET LOCAL search_path TO "${schema}", pg_temp;
    SET LOCAL client_min_messages TO warning;
    SET LOCAL check_function_bodies TO off;
    CREATE TABLE IF NOT EXISTS limit_installed (version integer NOT NULL, at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE IF NOT EXISTS limit_routines (digest text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    DO $guard$ BEGIN
      IF COALESCE((SELECT max(version) FROM limit_installed), 0) <> ${version}
        OR (to_regproc('limit_ask_${digest}') IS NOT NULL) <> ${ready} THEN
        RAISE EXCEPTION 'another process has migrated meanwhile' USING ERRCODE = '40001';
      END IF;
    END $guard$;
    ${steps.join("\n")}
    ${ready ? "" : `${dropRoutines}\n${ownRoutines()}`}
    DELETE FROM limit_installed;
    INSERT INTO limit_installed (version) VALUES (${schemaVersion});
  `;
}

/** The routines and their types under the names of this release. */
function ownRoutines(): string {
  const text = routines.map((routine) => routine.text).join("\n");
  const names = [...text.matchAll(/CREATE (?:FUNCTION|TYPE) (\w+)/g)].map((match) => match[1]!);
  return text.replaceAll(new RegExp(`\\b(${names.join("|")})\\b`, "g"), `$1_${digest}`);
}

/**
 * Leaves the routines of the release before this one, which may still be in use. Those of this one are there only in part, if somebody
 * has dropped the others.
 */
const dropRoutines = `
    DELETE FROM limit_routines WHERE digest = '${digest}';
    DO $drop$ DECLARE v_digest text; v_name text; BEGIN
      FOR v_digest IN (SELECT digest FROM limit_routines ORDER BY at DESC OFFSET 1) UNION ALL SELECT '${digest}' LOOP
        FOR v_name IN SELECT p.oid::regprocedure::text FROM pg_proc p
          WHERE p.pronamespace = current_schema()::regnamespace AND right(p.proname, 9) = '_' || v_digest LOOP
          EXECUTE 'DROP FUNCTION IF EXISTS ' || v_name || ' CASCADE';
        END LOOP;
        FOR v_name IN SELECT t.oid::regtype::text FROM pg_type t
          WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype = 'c' AND right(t.typname, 9) = '_' || v_digest LOOP
          EXECUTE 'DROP TYPE IF EXISTS ' || v_name || ' CASCADE';
        END LOOP;
        DELETE FROM limit_routines WHERE digest = v_digest;
      END LOOP;
    END $drop$;
    INSERT INTO limit_routines (digest) VALUES ('${digest}');`;

/** A short word for a text, for names. */
function shortDigest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}
