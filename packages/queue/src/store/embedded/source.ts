/** The embedded database as users name it. */
import { resolve } from "node:path";
import { durationMs, type ResolvedOptions, resolveOptions, SluiceError } from "@sluice/core";
import { type Database, type DatabaseSource, deadlineMsMax } from "../database.ts";
import { type DataDirectory, openDataDirectory } from "./data-directory.ts";
import { EmbeddedDatabase } from "./database.ts";

/** Settings of an embedded database. */
export interface EmbeddedOptions {
  /** Milliseconds a call may take, including the wait for its turn. Default 30 000, at least 1. */
  readonly deadlineMs?: number;
  /**
   * Milliseconds the engine may go on with a statement whose deadline has passed, before the engine is ended and
   * started anew: a statement cannot be interrupted. Default 30 000, at least 1.
   */
  readonly stuckMs?: number;
  /** Milliseconds between two looks for tables to vacuum, taken only if the database was used. Default 5000; 0: never. */
  readonly maintenanceMs?: number;
}

const optionSpec = {
  deadlineMs: durationMs({ default: 30_000, min: 1, max: deadlineMsMax }),
  stuckMs: durationMs({ default: 30_000, min: 1, max: deadlineMsMax }),
  maintenanceMs: durationMs({ default: 5000, min: 0, max: deadlineMsMax }),
} as const;

/** How long the exit of the process waits for the statement that runs, so that the lock can be removed. */
const exitWaitMs = 2000;

/**
 * A database inside this process: PostgreSQL as PGlite, in a thread, in a directory that is created if need be. Good
 * for one process at a time; a second one is refused. Needs the package `@electric-sql/pglite`.
 *
 *     const app = await sluice({ database: embedded(".sluice") });
 *
 * Survives `kill -9` without the loss of an acknowledged row, but PGlite does not call fsync: a power failure may
 * cost the last seconds.
 *
 * @param dataDirectory Path of a directory of its own, or "memory://" to keep everything in memory.
 * @throws SluiceError `invalid_option`. Opening throws `data_directory_in_use`, `data_directory_unusable`, or
 *   `invalid_option` if PGlite is not installed.
 */
export function embedded(dataDirectory: string, options: EmbeddedOptions = {}): DatabaseSource {
  const resolved = resolveOptions("embedded", optionSpec, options);
  const path = readDataDirectory(dataDirectory);
  return {
    async open(): Promise<Database> {
      if (path === undefined) {
        const target = "the embedded database in memory";
        return EmbeddedDatabase.open({ ...resolved, target, directory: undefined, onClosed: () => {} });
      }
      return openOnDisk(path, resolved);
    },
  };
}

/** The path in full; undefined for memory. */
function readDataDirectory(dataDirectory: unknown): string | undefined {
  if (dataDirectory === "memory://") return undefined;
  const usable =
    typeof dataDirectory === "string" && dataDirectory !== "" && !/^[a-z]+:\/\//i.test(dataDirectory);
  if (usable && !dataDirectory.includes("\0")) return resolve(dataDirectory);
  const got = typeof dataDirectory === "string" ? JSON.stringify(dataDirectory) : typeof dataDirectory;
  throw new SluiceError(
    "invalid_option",
    `embedded: dataDirectory: expected a path or "memory://", got ${got}`,
  );
}

async function openOnDisk(path: string, options: ResolvedOptions<typeof optionSpec>): Promise<Database> {
  const target = `the embedded database in ${path}`;
  let database: EmbeddedDatabase | undefined;
  const directory = openDataDirectory(path, () => {
    const message = `${target}: another process has taken the data directory over`;
    database?.abandon(new SluiceError("data_directory_in_use", message));
  });
  const unguard = releaseOnExit(directory, () => database?.freeze(exitWaitMs) ?? false);
  const release = (): void => {
    unguard();
    directory.release();
  };
  try {
    database = await EmbeddedDatabase.open({ ...options, target, directory, onClosed: release });
    return database;
  } catch (error) {
    release();
    throw error;
  }
}

const onExit = new Set<() => void>();

function runOnExit(): void {
  for (const release of onExit) release();
}

/**
 * Releases the lock when the process exits without closing the database. If the thread might still write, the lock
 * stays behind: the next opener sees that its process is dead, and that is not before the thread is.
 */
function releaseOnExit(directory: DataDirectory, freeze: () => boolean): () => void {
  const release = (): void => {
    if (freeze()) directory.release();
  };
  // One listener for all databases: many of them look like a leak, and Node warns.
  if (onExit.size === 0) process.on("exit", runOnExit);
  onExit.add(release);
  return () => {
    onExit.delete(release);
    if (onExit.size === 0) process.removeListener("exit", runOnExit);
  };
}
