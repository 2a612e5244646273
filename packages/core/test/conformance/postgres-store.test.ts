import { PGlite } from "@electric-sql/pglite";
import { postgres } from "@sluice/core/postgres";
import { storeConformance } from "@sluice/core/testing";
import pg from "pg";
import { afterAll, describe, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";

describe("the PostgreSQL store", () => {
  const { url, schema } = freshDatabase("limits");
  const pool = new pg.Pool({ connectionString: url, max: 4 });
  afterAll(() => pool.end());

  const cases = storeConformance(async (clock) => {
    await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
    return postgres(pool, { schema, nowUs: () => clock.nowUs() });
  });
  for (const { name, run } of cases) test(name, run);
});

describe("the PostgreSQL store in PGlite", () => {
  const database = new PGlite();
  afterAll(() => database.close());

  const cases = storeConformance(async (clock) => {
    await database.exec("DROP SCHEMA IF EXISTS sluice CASCADE");
    return postgres(database, { nowUs: () => clock.nowUs() });
  });
  for (const { name, run } of cases) test(name, run);
});
