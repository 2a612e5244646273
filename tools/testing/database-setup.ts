/** vitest global set-up of the suites that need PostgreSQL: one server for the whole run, however many suites share it. */
import type { TestProject } from "vitest/node";
import { type ProvidedPostgres, providePostgres } from "../servers/postgres.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Connection string of the run's PostgreSQL; see `tools/testing/database.ts`. */
    readonly databaseUrl: string;
  }
}

interface Shared {
  users: number;
  server: Promise<ProvidedPostgres>;
}

// vitest loads this module once per suite, each time afresh; what they share has to live outside it.
const slot = Symbol.for("sluice.testing.postgres");
const shared = globalThis as { [slot]?: Shared | undefined };

/** Starts the server for the first suite, and gives every suite its URL. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  shared[slot] ??= { users: 0, server: providePostgres() };
  const held = shared[slot];
  held.users++;
  const server = await held.server;
  project.provide("databaseUrl", server.url);
  return async () => {
    if (--held.users > 0) return;
    shared[slot] = undefined;
    await server.stop();
  };
}
