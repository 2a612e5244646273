/** Every engine, held to what a database must do. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { embedded } from "../../src/embedded.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { databaseConformance } from "./database.ts";

const folder = mkdtempSync(join(tmpdir(), "sluice-database-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const postgres = freshDatabase("database");
databaseConformance({
  name: "PostgreSQL",
  schema: postgres.schema,
  open: () => openPostgres(postgres.url),
});

databaseConformance({
  name: "embedded, in memory",
  schema: "conformance",
  open: () => embedded("memory://").open(),
});

// A second database on the same directory is refused, so each is opened on one of its own.
let opened = 0;
databaseConformance({
  name: "embedded, on disk",
  schema: "conformance",
  open: () => embedded(join(folder, `data-${opened++}`)).open(),
});
