/**
 * PostgreSQL refuses to run as root, so a root user's test server runs as somebody without privileges. This module says
 * as whom, and whether that account can reach a given file.
 */
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

/** A user and group id for `spawn` and `chown`; undefined stands for "as we are". */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

const nobody: Account = { uid: 65_534, gid: 65_534 };

/** The account to run PostgreSQL under: `postgres` or else `nobody` when we are root, undefined (ourselves) when not. */
export function serverAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = readAccounts();
  return accounts.get("postgres") ?? accounts.get("nobody") ?? nobody;
}

function readAccounts(): Map<string, Account> {
  const accounts = new Map<string, Account>();
  for (const line of readPasswd().split("\n")) {
    const [name, , uid, gid] = line.split(":");
    if (name && Number(uid) > 0) accounts.set(name, { uid: Number(uid), gid: Number(gid) });
  }
  return accounts;
}

function readPasswd(): string {
  try {
    return readFileSync("/etc/passwd", "utf8");
  } catch {
    return ""; // A minimal image may have none; then the numeric account serves.
  }
}

/** Whether `account` may read and enter `path` and every folder above it. */
export function canReach(path: string, account: Account | undefined): boolean {
  if (account === undefined) return isReadable(path);
  for (let current = resolve(path); ; current = dirname(current)) {
    if (!mayEnter(current, account)) return false;
    if (current === dirname(current)) return true;
  }
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function mayEnter(path: string, account: Account): boolean {
  const { mode, uid, gid } = statSync(path);
  const bits = uid === account.uid ? mode >> 6 : gid === account.gid ? mode >> 3 : mode;
  return (bits & 0o1) === 0o1;
}

/** A temporary folder that `account` can reach: the system's own, else one of the usual ones. */
export function reachableTemporaryFolder(account: Account | undefined): string {
  const found = [tmpdir(), "/tmp", "/var/tmp"].find((path) => isThere(path) && canReach(path, account));
  if (found === undefined)
    throw new Error(`no temporary folder is open to uid ${account?.uid}: set TMPDIR to one that is`);
  return found;
}

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** The environment of a server process: nothing of ours that could steer it (PG*), and a locale that always exists. */
export function serverEnvironment(home: string): NodeJS.ProcessEnv {
  const path = process.env["PATH"] ?? join("/usr", "bin");
  return { PATH: path, HOME: home, TMPDIR: home, LC_ALL: "C", TZ: "UTC" };
}
