import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { dropSchema, freshDatabase, freshSchema } from "../../../../tools/testing/database.ts";
import { sluice } from "../../src/index.ts";

const { url, schema } = freshDatabase("schema");
const pool = new pg.Pool({ connectionString: url, max: 2 });
afterAll(() => pool.end());

test("eight processes that open a fresh database at once all get through, and agree", {
  timeout: 120_000,
}, async () => {
  const program = join(import.meta.dirname, "open-program.ts");
  const open = async (): Promise<string> =>
    (await promisify(execFile)(process.execPath, ["--conditions=@sluice/source", program, url, schema]))
      .stdout;
  expect(await Promise.all(Array.from({ length: 8 }, open))).toEqual(
    Array.from({ length: 8 }, () => "waiting"),
  );
  const { rows } = await pool.query<{ queues: number; lanes: number; waiting: string; installed: number }>(
    `SELECT (SELECT count(*)::int FROM ${schema}.queues) AS queues, (SELECT count(*)::int FROM ${schema}.lanes) AS lanes,
      (SELECT sum(waiting) FROM ${schema}.lanes) AS waiting, (SELECT count(*)::int FROM ${schema}.installed) AS installed`,
  );
  expect(rows[0]).toEqual({ queues: 1, lanes: 1, waiting: "8", installed: 1 });
});

test("a schema of a newer release is refused by name, and left as it is", async () => {
  const other = freshSchema("newer");
  await (await sluice({ database: url, schema: other })).close();
  await pool.query(`UPDATE ${other}.installed SET version = 999`);
  const opened = sluice({ database: url, schema: other });
  await expect(opened).rejects.toMatchObject({ code: "schema_too_new", details: { found: 999 } });
  const { rows } = await pool.query(`SELECT version FROM ${other}.installed`);
  expect(rows).toEqual([{ version: 999 }]);
  await dropSchema({ url, schema: other });
});

test("two apps in one database with schemas of their own know nothing of each other", async () => {
  const names = [freshSchema("one"), freshSchema("two")];
  const apps = await Promise.all(names.map((name) => sluice({ database: url, schema: name })));
  const queues = apps.map((app) => app.queue("same"));
  const { id } = await queues[0]!.enqueue("t", 1, { idempotencyKey: "k" });
  expect(await apps[1]!.get(id)).toBeUndefined();
  expect((await queues[1]!.enqueue("t", 2, { idempotencyKey: "k" })).duplicate).toBe(false);
  expect((await queues[0]!.stats()).waiting).toBe(1);
  await Promise.all(apps.map((app) => app.close()));
  await Promise.all(names.map((name) => dropSchema({ url, schema: name })));
});

test("a pool of the caller's own is used and stays open", async () => {
  const app = await sluice({ database: pool, schema });
  app.task("t", (input) => input);
  const queue = app.queue("pooled");
  await app.work({ queues: [queue] });
  expect(await app.result((await queue.enqueue("t", 5)).id, { timeoutMs: 5000 })).toBe(5);
  await app.close();
  expect((await pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
});

test.each<[string, object]>([
  ["no database", {}],
  ["a database that is none", { database: "mysql://127.0.0.1/x" }],
  ["a database without a scheme", { database: "127.0.0.1" }],
  ["a schema in upper case", { database: "postgres://127.0.0.1/x", schema: "Sluice" }],
  [
    "a schema that is not a name",
    { database: "postgres://127.0.0.1/x", schema: 'a"; DROP SCHEMA public; --' },
  ],
  ["a schema too long", { database: "postgres://127.0.0.1/x", schema: "x".repeat(41) }],
  ["an unknown option", { database: "postgres://127.0.0.1/x", schemas: "x" }],
])("options with %s are refused", async (_, options) => {
  await expect(sluice(options as never)).rejects.toMatchObject({ code: "invalid_option" });
});

test("a password in the connection string appears in no error", async () => {
  const secret = "s3cr3t-canary";
  const opened = sluice({ database: `postgres://nobody:${secret}@127.0.0.1:1/x` });
  const error = await opened.catch((thrown: unknown) => thrown);
  const { inspect } = await import("node:util");
  expect(inspect(error, { depth: 10 })).not.toContain(secret);
});
