/**
 * The directory of an embedded database:
 *
 *     <directory>/postgres/   what PGlite keeps
 *     <directory>/lock        who has it open, beside what it protects
 *     <directory>/creating    only while the database is being created: what an interrupted creation left is no
 *                             database, and nobody has been told that anything is in it
 */
import { closeSync, mkdirSync, openSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { isSluiceError, SluiceError } from "@sluice/core";
import { isBusy, type Lock, takeLock } from "./lock.ts";

/** A data directory that is ours. */
export interface DataDirectory {
  /** What to give to PGlite. */
  readonly databasePath: string;
  /** Whether the database has yet to be created. */
  readonly fresh: boolean;
  /** Says that the database in it is complete. To be called after each start; idempotent. */
  markCreated(): void;
  /** Lets others have it. Idempotent, never throws. */
  release(): void;
}

/**
 * Creates the directory if need be and locks it.
 * @param onLost Called if another process took it over; nothing may be written after that.
 * @throws SluiceError `data_directory_in_use` naming the pid that has it open, `data_directory_unusable` if it cannot
 *   be created or written or holds something else.
 */
export function openDataDirectory(directory: string, onLost: () => void): DataDirectory {
  let lock: Lock | undefined;
  try {
    makeDirectory(directory);
    const path = realpathSync(directory);
    checkContent(path);
    lock = lockDirectory(path, onLost);
    const databasePath = join(path, "postgres");
    const creating = join(path, "creating");
    prepare(databasePath, creating);
    const { release } = lock;
    return {
      databasePath,
      get fresh() {
        return exists(creating);
      },
      markCreated: () => rmSync(creating, { force: true }),
      release,
    };
  } catch (error) {
    lock?.release();
    if (isSluiceError(error)) throw error;
    const { message } = error as Error;
    throw new SluiceError("data_directory_unusable", `data directory ${directory}: ${message}`, {
      cause: error,
    });
  }
}

/** Refuses a directory that has other things in it: "." or a home directory given by mistake. */
function checkContent(path: string): void {
  const foreign = readdirSync(path).find((name) => !/^(postgres|creating|lock(\..*)?)$/.test(name));
  if (foreign === undefined) return;
  const message = `data directory ${path}: it is no data directory of Sluice and not empty (it has ${foreign})`;
  throw new SluiceError("data_directory_unusable", message);
}

function lockDirectory(path: string, onLost: () => void): Lock {
  const lock = takeLock(join(path, "lock"), onLost);
  if (!isBusy(lock)) return lock;
  const who = lock.pid === process.pid ? "this process" : "process";
  const message = `data directory ${path}: ${who} ${lock.pid} has it open`;
  throw new SluiceError("data_directory_in_use", message, { details: { pid: lock.pid } });
}

function prepare(databasePath: string, creating: string): void {
  const interrupted = exists(creating);
  if (interrupted) rmSync(databasePath, { recursive: true, force: true });
  else if (exists(join(databasePath, "PG_VERSION"))) return;
  else if (exists(databasePath) && readdirSync(databasePath).length > 0) {
    throw new SluiceError("data_directory_unusable", `${databasePath}: it is no database and not empty`);
  }
  closeSync(openSync(creating, "a"));
  makeDirectory(databasePath);
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Makes a directory and what is missing above it. The recursive way of Node never returns where the kernel denies by ENOENT, as in /proc. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return;
    const parent = dirname(path);
    if (code !== "ENOENT" || parent === path) throw error;
    makeDirectory(parent);
    mkdirSync(path);
  }
}
