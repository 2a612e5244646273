/** What `exec` is to a shell: Node 20 has no such call, so a process stands by and passes on what comes and goes. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/**
 * Runs a command in our place: the same terminal, signals passed on to it, and the end as it ends.
 * @param {string} file
 * @param {string[]} args
 * @param {import("node:child_process").SpawnOptions} options where, and with which environment
 */
export function become(file, args, options) {
  const child = spawn(file, args, { ...options, stdio: "inherit" });
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  const forward = (signal) => child.kill(signal);
  process.on("SIGTERM", forward);
  process.on("SIGHUP", forward);
  // A terminal sends Ctrl-C to the whole foreground group, the child included; passing it on would make it two, and a
  // second Ctrl-C commonly means "at once".
  process.on("SIGINT", (signal) => {
    if (!onTerminal) forward(signal);
  });
  const watch = watchParent(() => child.kill("SIGTERM"));
  child.on("error", (error) => {
    process.stderr.write(`${file} could not be started: ${error.message}\n`);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    clearInterval(watch);
    if (signal === null) process.exit(code ?? 1);
    for (const name of ["SIGTERM", "SIGHUP", "SIGINT"]) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

/**
 * Calls `onGone` when npm, which started us, is gone: SIGKILL cannot be passed on, and npm passes SIGTERM only to the shell
 * between us, which dies of it alone. A target left behind would keep its database open, so that the next run finds it in
 * use. Only under npm: a person's shell that ends leaves its jobs on purpose.
 */
function watchParent(onGone) {
  if (!process.env.npm_lifecycle_event || process.platform === "win32") return undefined;
  const parent = process.ppid;
  const above = isNpmsShell(parent) ? parentOf(parent) : undefined;
  const timer = setInterval(() => {
    if (process.ppid === parent && (above === undefined || parentOf(parent) === above)) return;
    clearInterval(timer);
    onGone();
  }, 500);
  timer.unref();
  return timer;
}

/** Whether a process is the `sh -c` that npm puts around a script; dash stays there, bash turns into the script. */
function isNpmsShell(pid) {
  const [shell = "", flag] = readIfThere(`/proc/${pid}/cmdline`).split("\0");
  return /(^|\/)(sh|dash|bash|ash|busybox)$/.test(shell) && flag === "-c";
}

function parentOf(pid) {
  const stat = readIfThere(`/proc/${pid}/stat`);
  // "pid (name) state ppid": the name may hold anything, a parenthesis too, so it is skipped from behind.
  const ppid = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  return ppid > 0 ? ppid : undefined;
}

function readIfThere(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
