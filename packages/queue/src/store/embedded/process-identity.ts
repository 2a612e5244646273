/** Which process holds a lock, and whether it still lives. A pid alone does not do: pids are used again. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** A process, told apart from every other that ever had its pid. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started: the kernel's tick count on Linux, the `ps` date elsewhere; empty if it cannot be told. */
  readonly startedAt: string;
  /** The boot and pid namespace (Linux), or host: a pid means nothing outside. */
  readonly host: string;
}

/** A holder on another host or in another container is taken for dead after this long without a sign of life. */
const silenceMs = 20_000;

/** The identity of this process. */
export function thisProcess(): ProcessIdentity {
  return { pid: process.pid, startedAt: startOf(process.pid) ?? "", host: hostOfPids() };
}

/**
 * Whether a process lives.
 * @param silentMs Milliseconds since its last sign of life; counts only where its pid cannot be looked up.
 */
export function isAlive(identity: ProcessIdentity, silentMs: number): boolean {
  // A lock that cannot be read may be in the making: see `createWithoutLink`.
  if (identity.pid <= 0) return silentMs < 1000;
  if (identity.host !== hostOfPids()) return sameBoot(identity) && silentMs < silenceMs;
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    // EPERM: it exists and belongs to someone else.
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  if (isZombie(identity.pid)) return false;
  const startedAt = startOf(identity.pid);
  return startedAt === undefined || identity.startedAt === "" || startedAt === identity.startedAt;
}

/** False only if the holder ran on this host before it was last booted. */
function sameBoot(identity: ProcessIdentity): boolean {
  const [name, boot] = identity.host.split("/");
  const [ownName, ownBoot] = hostOfPids().split("/");
  return name !== ownName || boot === ownBoot;
}

let pidHost: string | undefined;

function hostOfPids(): string {
  pidHost ??= [hostname(), bootId(), pidNamespace()].join("/");
  return pidHost;
}

function bootId(): string {
  return tryTo(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()) ?? "";
}

function pidNamespace(): string {
  return tryTo(() => readlinkSync("/proc/self/ns/pid")) ?? "";
}

/**
 * Whether a process is dead but not yet collected by its parent, which some containers never do. Its threads may
 * outlive the first one by an instant, in the middle of a write: only when that one is left is it over.
 */
function isZombie(pid: number): boolean {
  return statFields(pid)?.[0] === "Z" && tryTo(() => readdirSync(`/proc/${pid}/task`))?.length === 1;
}

/** The fields of /proc/pid/stat from the third, the state, on. The second may hold spaces and brackets. */
function statFields(pid: number): string[] | undefined {
  const stat = tryTo(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** When a process started; undefined if that cannot be told. */
function startOf(pid: number): string | undefined {
  if (process.platform === "linux") return statFields(pid)?.[19];
  if (process.platform === "win32") return undefined;
  const ps = (): string => execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" });
  return tryTo(ps)?.trim() || undefined;
}

function tryTo<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
