import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { type LimitRule, parseRate, ratePolicy } from "@sluice/core";
import { type PostgresClient, type PostgresStoreOptions, postgres } from "@sluice/core/postgres";
import { sluice } from "@sluice/queue";
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { dropSchema, freshDatabase, freshSchema } from "../../../../tools/testing/database.ts";
import type { Order, Report } from "./fleet-process.ts";

const { url, schema } = freshDatabase("limit-schema");
const pool = new pg.Pool({ connectionString: url, max: 4 });
afterAll(() => pool.end());

const policy = ratePolicy(parseRate("2/h"), { algorithm: "sliding-window" });
const rule: LimitRule = Object.freeze({ name: "schema", policy });

test("eight processes that use a fresh schema for the first time at once all get through", {
  timeout: 60_000,
}, async () => {
  const fresh = freshSchema("first-use");
  const order: Order = {
    url,
    schema: fresh,
    kind: "one-key",
    rate: "5/h",
    algorithm: "sliding-window",
    durationMs: 300,
  };
  const program = join(import.meta.dirname, "fleet-process.ts");
  const start = async (): Promise<Report> => {
    const args = ["--conditions=@sluice/source", program, JSON.stringify(order)];
    return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout) as Report;
  };
  const reports = await Promise.all(Array.from({ length: 8 }, start));
  expect(reports.flatMap(({ faults }) => faults)).toEqual([]);
  const costs = reports.flatMap(({ admitted }) => (admitted["hot"] ?? []).map(([, cost]) => cost));
  expect(costs.reduce((sum, cost) => sum + cost, 0)).toBe(5);
  const { rows } = await pool.query(`SELECT version FROM ${fresh}.limit_installed`);
  expect(rows).toEqual([{ version: 1 }]);
  await dropSchema({ url, schema: fresh });
});

test("a schema of a newer release is refused by name, and left as it is", async () => {
  const newer = freshSchema("newer");
  await postgres(pool, { schema: newer }).consume(rule, "k", 1);
  await pool.query(`UPDATE ${newer}.limit_installed SET version = 999`);
  await expect(postgres(pool, { schema: newer }).consume(rule, "k", 1)).rejects.toMatchObject({
    code: "schema_too_new",
    details: { found: 999 },
  });
  expect((await pool.query(`SELECT version FROM ${newer}.limit_installed`)).rows).toEqual([{ version: 999 }]);
  await dropSchema({ url, schema: newer });
});

test("a server that is too old is refused by name", async () => {
  // As such a server would answer; there is none to start.
  const old: PostgresClient = {
    query: (() => Promise.resolve({ rows: [{ server: "140012", kind: null, ready: false }] })) as never,
  };
  await expect(postgres(old).peek(rule, "k", 1)).rejects.toMatchObject({
    code: "database_too_old",
    details: { version: 14 },
  });
});

test("a schema that is dropped under the store is made anew, and nothing is debited twice", async () => {
  const store = postgres(pool, { schema });
  await store.consume(rule, "k", 1);
  await pool.query(`DROP SCHEMA ${schema} CASCADE`);
  const verdicts = await Promise.all([1, 2, 3].map(() => store.consume(rule, "k", 1)));
  expect(verdicts.map(({ allowed }) => allowed)).toEqual([true, true, false]);
});

test("the queue in the same schema: neither's migration stops the other", async () => {
  const shared = freshSchema("shared");
  const store = postgres(pool, { schema: shared });
  expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  const app = await sluice({ database: url, schema: shared });
  expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  expect((await store.consume(rule, "k", 1)).allowed).toBe(false);
  await app.queue("q").enqueue("t", 1);
  expect((await app.queue("q").stats()).waiting).toBe(1);
  await app.close();
  await dropSchema({ url, schema: shared });
});

test("routines of a release that is two updates old are dropped, and of the last one kept", async () => {
  const releases = freshSchema("releases");
  await postgres(pool, { schema: releases }).peek(rule, "k", 1);
  await pool.query(`
    SET search_path TO ${releases};
    DELETE FROM limit_routines;
    CREATE TYPE limit_work_00000000 AS (a int); CREATE TYPE limit_work_11111111 AS (a int);
    CREATE FUNCTION limit_ask_00000000(k limit_work_00000000) RETURNS int LANGUAGE sql RETURN 1;
    CREATE FUNCTION limit_ask_11111111(k limit_work_11111111) RETURNS int LANGUAGE sql RETURN 1;
    INSERT INTO limit_routines VALUES ('00000000', '2020-01-01'), ('11111111', '2021-01-01');
    DO $$ DECLARE f text; BEGIN
      FOR f IN SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = '${releases}'::regnamespace
        AND proname ~ '^limit_ask_' AND proname !~ '(0{8}|1{8})$' LOOP EXECUTE 'ALTER FUNCTION ' || f || ' RENAME TO gone'; END LOOP;
      FOR f IN SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = '${releases}'::regnamespace
        AND proname !~ '_(0{8}|1{8})$' LOOP EXECUTE 'DROP FUNCTION ' || f || ' CASCADE'; END LOOP;
      FOR f IN SELECT oid::regtype::text FROM pg_type WHERE typnamespace = '${releases}'::regnamespace AND typtype = 'c'
        AND typname ~ '^limit_(work|rule)_' AND typname !~ '_(0{8}|1{8})$' LOOP EXECUTE 'DROP TYPE ' || f || ' CASCADE'; END LOOP;
    END $$;
    RESET search_path`);
  expect((await postgres(pool, { schema: releases }).consume(rule, "k", 1)).allowed).toBe(true);
  const { rows } = await pool.query<{ digest: string }>(
    `SELECT DISTINCT right(proname, 8) AS digest FROM pg_proc WHERE pronamespace = '${releases}'::regnamespace`,
  );
  const digests = rows.map(({ digest }) => digest);
  expect(digests).toHaveLength(2);
  expect(digests).toContain("11111111");
  await dropSchema({ url, schema: releases });
});

test("a table that is logged does not become unlogged by the way, nor the reverse", async () => {
  const logged = freshSchema("logged");
  await postgres(pool, { schema: logged }).consume(rule, "k", 1);
  const other = postgres(pool, { schema: logged, losesBudgetsOnCrash: true });
  await expect(other.consume(rule, "k", 1)).rejects.toMatchObject({ code: "already_declared" });
  await dropSchema({ url, schema: logged });
});

test("a role that may not create schemas can use one that is there", async () => {
  const given = freshSchema("given");
  await pool.query(`CREATE ROLE ${given} LOGIN; CREATE SCHEMA ${given} AUTHORIZATION ${given}`);
  const address = new URL(url);
  address.username = given;
  const own = new pg.Client({ connectionString: address.href });
  await own.connect();
  const store = postgres(own, { schema: given });
  expect((await store.consume(rule, "k", 1)).allowed).toBe(true);
  await expect(postgres(own, { schema: freshSchema("none") }).consume(rule, "k", 1)).rejects.toMatchObject({
    code: "store_unavailable",
    details: { sqlstate: "42501" },
  });
  await own.end();
  await dropSchema({ url, schema: given });
  await pool.query(`DROP ROLE ${given}`);
});

test.each<[string, unknown, PostgresStoreOptions | undefined]>([
  ["no client", undefined, undefined],
  ["a connection string for a client", "postgres://127.0.0.1/x", undefined],
  ["a client that cannot query", {}, undefined],
  ["a schema in upper case", pool, { schema: "Sluice" }],
  ["a schema that is not a name", pool, { schema: 'a"; DROP SCHEMA public; --' }],
  ["a schema too long", pool, { schema: "x".repeat(41) }],
  ["no statements", pool, { maxStatements: 0 }],
  ["a batch too large", pool, { maxBatch: 1001 }],
  ["a clock that is none", pool, { nowUs: 5 } as never],
  ["an unknown option", pool, { unlogged: true } as never],
])("%s is refused", (_, client, options) => {
  expect(() => postgres(client as never, options)).toThrow(
    expect.objectContaining({ code: "invalid_option" }),
  );
});

test("a row whose rule is unknown, as after a restore in parts, is begun anew instead of failing for ever", async () => {
  const partial = freshSchema("partial");
  const store = postgres(pool, { schema: partial });
  await store.consume(rule, "k", 2);
  await pool.query(`UPDATE ${partial}.limit_keys SET rule = 1`);
  expect((await store.peek(rule, "k", 1)).remaining).toBe(2);
  expect((await store.consume(rule, "k", 1)).remaining).toBe(1);
  expect((await store.peek(rule, "k", 1)).remaining).toBe(1);
  await dropSchema({ url, schema: partial });
});
