/**
 * The lock on a data directory: a file that names its holder. PGlite has none of its own, and two engines on one
 * directory lose rows without a word.
 *
 * Taking. The file is created with its content in one step (a hard link to a finished file), so a lock is never seen
 * half written; exactly one creator succeeds. Every lock carries a token that is never used again.
 *
 * Taking over. A lock whose holder is dead is stale. Removing and re-creating it would race: the second of two
 * take-overs could remove the fresh lock of the first. So whoever takes over token T first takes the lock
 * `<file>.<T>`, by these same rules, and only then, if the file still holds T, replaces it by a rename. Nobody else
 * can replace T meanwhile (they would need the same lock), and its holder is dead. A take-over that dies half way
 * leaves `<file>.<T>` behind as a stale lock, which is taken over in the same way.
 */
import { randomUUID } from "node:crypto";
import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { isAlive, type ProcessIdentity, thisProcess } from "./process-identity.ts";

/** A lock that is held. */
export interface Lock {
  /** Removes the file. Idempotent; never throws. Also done when the process exits, if the process gets that far. */
  release(): void;
}

/** What a lock file says. */
interface Holder extends ProcessIdentity {
  readonly token: string;
}

/** A lock that someone else holds: who, as far as the file tells. */
export interface Busy {
  readonly pid: number;
}

/**
 * Takes the lock, or tells who has it. Throws the file system's error if the file cannot be written.
 * @param onLost Called if the lock turns out to belong to someone else: this process was taken for dead from a place
 *   that cannot see it, such as another container, after having been stopped for long.
 */
export function takeLock(file: string, onLost: () => void = () => {}): Lock | Busy {
  const holder: Holder = { ...thisProcess(), token: randomUUID() };
  const draft = `${file}.${holder.token}.new`;
  writeFileSync(draft, `${JSON.stringify(holder)}\n`, { flag: "wx" });
  try {
    for (;;) {
      if (createFrom(draft, file)) return hold(file, holder, onLost);
      const found = readHolder(file);
      if (found === undefined) continue; // released in between
      if (isAlive(found, draftTimeMs(draft) - lastSignMs(file))) return { pid: found.pid };
      const takeover = takeLock(`${file}.${found.token}`);
      if (!("release" in takeover)) return takeover;
      try {
        if (readHolder(file)?.token !== found.token) continue; // another take-over was complete before ours began
        renameSync(draft, file);
        return hold(file, holder, onLost);
      } finally {
        takeover.release();
      }
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Whether a lock was not to be had. */
export function isBusy(lock: Lock | Busy): lock is Busy {
  return !("release" in lock);
}

/** Tells processes that cannot see this one (another container on the same volume) that the holder lives. */
export const signOfLifeMs = 2000;

function hold(file: string, holder: Holder, onLost: () => void): Lock {
  // Signs of life go to the file that was open from the start: after a take-over the name leads to another's.
  const descriptor = openSync(file, "r+");
  const timer = setInterval(() => {
    if (!giveSign(descriptor, holder) || ownedBy(file, holder)) return;
    release();
    onLost();
  }, signOfLifeMs);
  timer.unref();
  let released = false;
  const release = (): void => {
    if (released) return;
    released = true;
    clearInterval(timer);
    closeSync(descriptor);
    if (ownedBy(file, holder)) rmSync(file, { force: true });
  };
  return { release };
}

/** Writes the lock anew, with the same bytes: readers see a whole lock at every instant. False if it cannot be. */
function giveSign(descriptor: number, holder: Holder): boolean {
  try {
    writeSync(descriptor, `${JSON.stringify(holder)}\n`, 0);
    return true;
  } catch {
    return false; // A full disk. Processes that see this one go by its pid.
  }
}

function ownedBy(file: string, holder: Holder): boolean {
  try {
    return readHolder(file)?.token === holder.token;
  } catch {
    return false;
  }
}

/** Creates `file` with the content of `draft`; false if it exists. */
function createFrom(draft: string, file: string): boolean {
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    // File systems without hard links (FAT): created empty and written at once, which a reader may see half done.
    if (code === "EPERM" || code === "ENOTSUP" || code === "ENOSYS" || code === "EMLINK") {
      return createWithoutLink(draft, file);
    }
    throw error;
  }
}

function createWithoutLink(draft: string, file: string): boolean {
  try {
    writeFileSync(file, readFileSync(draft), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Who holds the lock; undefined if there is no such file. */
function readHolder(file: string): Holder | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const { pid, startedAt, host, token } = JSON.parse(text) as Partial<Holder>;
    if (typeof pid === "number" && typeof token === "string" && /^[\w-]+$/.test(token)) {
      return { pid, startedAt: String(startedAt), host: String(host), token };
    }
  } catch {
    // Falls through: not a lock that this code has written whole.
  }
  // Cut off by a power failure, or by hand. Its holder cannot be told: stale, unless it is still being written.
  return { pid: 0, startedAt: "", host: "", token: `unreadable-${Math.trunc(statSync(file).mtimeMs)}` };
}

/** When the file was last written, by the clock of its file system; 0 if it is gone. */
function lastSignMs(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** The present by the clock of the file system: the draft has just been written. */
function draftTimeMs(draft: string): number {
  writeFileSync(draft, readFileSync(draft), { flag: "r+" });
  return statSync(draft).mtimeMs;
}
