/**
 * Where a Redis or Valkey server comes from: REDIS_SERVER_BIN or VALKEY_SERVER_BIN, the PATH, or, on Debian and Ubuntu, the
 * distribution's own package unpacked into `.sluice/servers/redis` of the checkout; nothing is installed on the machine.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** A server program that runs here. */
export interface RedisBinary {
  readonly file: string;
  readonly flavour: "redis" | "valkey";
  /** As the program says it: "7.0.15". */
  readonly version: string;
  /** Where its libraries lie, if not where the system looks. */
  readonly libraries?: string;
}

/** What a search found: a program, or why there is none. */
export type RedisSearch = { readonly binary: RedisBinary } | { readonly missing: string };

/** The oldest that the test servers' settings are known to. */
const oldestMajor = 7;
const downloadLimitMs = 120_000;
const cache = fileURLToPath(new URL("../../.sluice/servers/redis/", import.meta.url));

/** The server's package and what it needs beyond a bare system; names another release does not have are left out. */
const debianPackages = [
  "redis-server",
  "redis-tools",
  "libatomic1",
  "libhiredis0.14",
  "libhiredis1.1.0",
  "libjemalloc2",
  "liblua5.1-0",
  "liblzf1",
  "lua-bitop",
  "lua-cjson",
];

/** Looks everywhere, and downloads the distribution's package as the last resort unless told not to. */
export function findRedis(options: { readonly download?: boolean } = {}): RedisSearch {
  const looked: string[] = [];
  for (const candidate of candidates()) {
    const found = tried(candidate);
    if (typeof found === "object") return { binary: found };
    looked.push(`${candidate.file} (${found})`);
  }
  if (options.download ?? true) {
    const found = downloaded();
    if (typeof found === "object") return { binary: found };
    looked.push(found);
  }
  return {
    missing:
      `no Redis or Valkey ${oldestMajor} or newer was found. Looked at: ${looked.join(", ") || "nothing"}. ` +
      "Set TEST_REDIS_URL to a server, or REDIS_SERVER_BIN to a redis-server, or install the package redis-server",
  };
}

interface Candidate {
  readonly file: string;
  readonly libraries?: string;
}

function* candidates(): Generator<Candidate> {
  for (const named of [process.env["REDIS_SERVER_BIN"], process.env["VALKEY_SERVER_BIN"]]) {
    if (named) yield { file: named };
  }
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    for (const name of ["redis-server", "valkey-server"]) {
      const file = join(folder, name);
      if (existsSync(file)) yield { file };
    }
  }
  if (existsSync(unpackedServer)) yield unpacked();
}

const unpackedServer = join(cache, "root", "usr", "bin", "redis-server");

function unpacked(): Candidate {
  const parent = join(cache, "root", "usr", "lib");
  const folder = readdirSync(parent).find((name) => name.endsWith("-linux-gnu"));
  return folder === undefined
    ? { file: unpackedServer }
    : { file: unpackedServer, libraries: join(parent, folder) };
}

/** The program if it runs and is new enough, else what it said. */
function tried(candidate: Candidate): RedisBinary | string {
  const { file, libraries } = candidate;
  const ran = spawnSync(file, ["--version"], {
    encoding: "utf8",
    timeout: 10_000,
    env: redisEnvironment(libraries),
  });
  const version = /v=(\d+\.\d+\.\d+)/.exec(ran.stdout ?? "")?.[1];
  if (version === undefined) return (ran.error?.message ?? ran.stderr.trim()) || "no version";
  if (Number.parseInt(version, 10) < oldestMajor) return `version ${version}`;
  return { ...candidate, flavour: /valkey/i.test(ran.stdout) ? "valkey" : "redis", version };
}

/** The environment of a server process. */
export function redisEnvironment(libraries: string | undefined): NodeJS.ProcessEnv {
  const base = { PATH: process.env["PATH"] ?? "", LC_ALL: "C", TZ: "UTC" };
  return libraries === undefined ? base : { ...base, LD_LIBRARY_PATH: libraries };
}

/** Fetches the distribution's packages and unpacks them; the program, or why that was not possible. */
function downloaded(): RedisBinary | string {
  if (spawnSync("apt-get", ["--version"]).status !== 0 || spawnSync("dpkg", ["--version"]).status !== 0)
    return "apt-get (this is no Debian or Ubuntu)";
  const scratch = join(cache, `scratch-${process.pid}`);
  const run = (command: string, args: readonly string[]): { readonly ok: boolean; readonly said: string } => {
    const ran = spawnSync(command, args, { cwd: scratch, encoding: "utf8", timeout: downloadLimitMs });
    return { ok: ran.status === 0, said: `${ran.error?.message ?? ""}${ran.stderr ?? ""}`.trim() };
  };
  mkdirSync(scratch, { recursive: true });
  try {
    const known = (name: string): boolean => run("apt-cache", ["show", "--quiet=0", name]).ok;
    // A bare image has no package lists yet, and only root may fetch them.
    if (!known("redis-server") && process.getuid?.() === 0) run("apt-get", ["update", "--quiet"]);
    const fetched = run("apt-get", ["download", "--quiet", ...debianPackages.filter(known)]);
    if (!fetched.ok) return `apt-get download (${fetched.said.slice(-200)})`;
    for (const file of readdirSync(scratch).filter((name) => name.endsWith(".deb"))) {
      const extracted = run("dpkg", ["-x", file, "root"]);
      if (!extracted.ok) return `dpkg -x ${file} (${extracted.said.slice(-200)})`;
    }
    rmSync(join(cache, "root"), { recursive: true, force: true });
    renameSync(join(scratch, "root"), join(cache, "root"));
  } catch (error) {
    return `unpacking into ${cache} (${(error as Error).message})`;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const found = tried(unpacked());
  return typeof found === "object" ? found : `${unpackedServer} (${found})`;
}

if (import.meta.main) {
  const found = findRedis();
  process.stdout.write(`${"binary" in found ? JSON.stringify(found.binary) : found.missing}\n`);
}
