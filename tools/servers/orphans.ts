/**
 * Keeps a test server from outliving the process that started it, however that process ends: normally, by a signal, or
 * by SIGKILL, of which it hears nothing. One mechanism for all of them, and a second line behind it:
 *
 * 1. A watchdog, a waiting shell in a session of its own, reads a pipe whose other end only our process holds. A line
 *    means "stopped in good order, nothing to do"; end of file means we are gone: it stops the server and removes the files.
 * 2. Each start removes what a watchdog that was itself killed may have left: folders whose owner no longer lives.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A start of folder names that only test servers use. */
export const folderPrefix = "sluice-test-";

// The pid in the file may by now belong to something else, so it is killed only if its command line names our folder.
// Three rounds: the server may be just about to start, or initdb to write, while the owner dies.
const script = `
read -r line && exit 0
for round in 1 2 3; do
  for file in "$1"/*.pid "$1"/data/postmaster.pid; do
    [ -f "$file" ] || continue
    read -r pid < "$file" || [ -n "$pid" ] || continue
    if [ ! -d /proc/self ] || tr '\\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1"; then kill -QUIT "$pid" 2>/dev/null; kill -CONT "$pid" 2>/dev/null; fi
  done
  sleep 0.3
  rm -rf "$1"
  [ -e "$1" ] || exit 0
done
`;

/** A watch over one server's folder. */
export interface Watchdog {
  /** Ends the watch: the server has stopped and its folder is removed. */
  dismiss(): void;
}

/**
 * Starts the watch over `folder`. The server's pid is read from a `.pid` file in it or from `data/postmaster.pid` at the time
 * it is needed, so a server restarted under the watch is covered as well.
 */
export function watchOver(folder: string): Watchdog {
  writeFileSync(join(folder, "owner"), identityOf(process.pid) ?? String(process.pid));
  const child: ChildProcess = spawn("/bin/sh", ["-c", script, "sluice-watchdog", folder], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    cwd: "/",
  });
  child.on("error", () => {}); // Without a shell the second line of defence remains.
  child.unref();
  const pipe = child.stdin as (NodeJS.WritableStream & { unref?(): void }) | null;
  pipe?.unref?.();
  pipe?.on("error", () => {});
  return {
    dismiss() {
      pipe?.end("done\n");
    },
  };
}

/** Stops servers and removes folders in `parent` whose owner is gone. */
export function removeLeftovers(parent: string): void {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(folderPrefix)) continue;
    const folder = join(parent, name);
    const owner = readIfThere(join(folder, "owner"));
    const pid = Number.parseInt(owner, 10);
    if (!(pid > 0) || identityOf(pid) === owner) continue;
    for (const file of pidFiles(folder)) stopIfOurs(Number.parseInt(readIfThere(file), 10), folder);
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    } catch {
      // Another user's leftovers: theirs to remove.
    }
  }
}

function pidFiles(folder: string): string[] {
  try {
    const direct = readdirSync(folder).filter((name) => name.endsWith(".pid"));
    return [...direct.map((name) => join(folder, name)), join(folder, "data", "postmaster.pid")].filter(
      existsSync,
    );
  } catch {
    return [];
  }
}

function stopIfOurs(pid: number, folder: string): void {
  if (!(pid > 0) || !readIfThere(`/proc/${pid}/cmdline`).includes(folder)) return;
  try {
    process.kill(pid, "SIGQUIT");
    // A test may have left it standing still.
    process.kill(pid, "SIGCONT");
  } catch {
    // It ended by itself in the meantime.
  }
}

/** A process as "pid start-time", so that a pid given to another process later is told apart; undefined when it is gone. */
function identityOf(pid: number): string | undefined {
  const stat = readIfThere(`/proc/${pid}/stat`);
  // The name in parentheses may contain anything, so fields are counted from the last parenthesis; the 20th is the start.
  if (stat !== "") return `${pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  if (existsSync("/proc/self/stat")) return undefined;
  try {
    process.kill(pid, 0);
    return String(pid);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" ? String(pid) : undefined;
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
