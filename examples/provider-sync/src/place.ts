/** Where a run stores its work: chosen at the start, cleared away after a clean run unless a person named it. */

import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { StoreChoice } from "./arguments.ts";
import type { StorePlace } from "./worker.ts";

/** The place of a run. */
export interface Place {
  readonly store: StorePlace;
  /** One line for the header. */
  readonly label: string;
  /** True when a person named it: it is kept. */
  readonly named: boolean;
  /** The options that make another run continue here. */
  readonly continueWith: string;
  /** Removes the directory or the schema, with everything in it. */
  remove(): Promise<void>;
}

/** Makes the place a run was asked to use. */
export async function preparePlace(choice: StoreChoice, workers: number): Promise<Place> {
  return choice.engine === "embedded" ? embeddedPlace(choice.dataDir) : postgresPlace(choice, workers);
}

async function embeddedPlace(named: string | undefined): Promise<Place> {
  const directory = named === undefined ? await mkdtemp(join(tmpdir(), "sluice-demo-")) : resolve(named);
  return {
    store: { engine: "embedded", dataDir: join(directory, "database") },
    label: `embedded PostgreSQL (PGlite) in ${directory}`,
    named: named !== undefined,
    continueWith: `--data-dir ${directory}`,
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

function postgresPlace(choice: Extract<StoreChoice, { engine: "postgres" }>, workers: number): Place {
  const schema = choice.schema ?? `sluice_demo_${randomBytes(4).toString("hex")}`;
  const { url } = choice;
  return {
    store: { engine: "postgres", url, schema },
    label: `PostgreSQL, schema ${schema}`,
    named: choice.schema !== undefined,
    continueWith: `--workers ${workers} --schema ${schema}`,
    async remove() {
      const { default: pg } = await import("pg");
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      try {
        // The name is ours or was checked by the command line: letters, digits and underscores only.
        await client.query(`DROP SCHEMA IF EXISTS "${schema}" CASCADE`);
      } finally {
        await client.end();
      }
    },
  };
}
