/**
 * What has to be true before anything in this repository can run: the locked packages are installed and the TypeScript
 * is built. Plain JavaScript for Node >= 20.19, because it runs before there is anything else.
 *
 * Whether an install is due is read from npm's own record of the last complete install (`node_modules/.package-lock.json`):
 * npm writes it last, so an interrupted install leaves none, and an install by hand counts as well as one from here.
 */
import { spawnSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root folder. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const oldestNode = [20, 19];
const installLimitMs = 15 * 60_000;

/** A failure that is explained to the person at the terminal: what happened, and what to do next. */
export class Refusal extends Error {
  /**
   * @param {string} message what happened
   * @param {string} next the step to take
   */
  constructor(message, next) {
    super(message);
    this.next = next;
  }
}

/** Prints one line of what is being done and why. Standard error, so that `--json` output stays clean. */
export function say(line) {
  process.stderr.write(`sluice: ${line}\n`);
}

/** Refuses a Node that is too old to run even the built code. */
export function checkNode(version = process.versions.node) {
  const [major, minor] = version.split(".").map(Number);
  if (major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1])) return;
  throw new Refusal(`Node ${version} is too old`, `install Node ${oldestNode.join(".")} or newer`);
}

/**
 * The Node of the person who typed the command. npm puts node_modules/.bin first on the PATH, so once the repository's
 * own Node is installed `node` in a script is that one; npm tells which Node itself runs on.
 */
export function usersNode() {
  const told = process.env.npm_node_execpath;
  return told && existsSync(told) ? told : process.execPath;
}

/** The repository's own Node (24, an optional dependency) or, where there is none for this machine, the running one. */
export function ownNode() {
  const os = process.platform === "win32" ? "win" : process.platform;
  const file = join(
    root,
    "node_modules",
    `node-${os}-${process.arch}`,
    "bin",
    process.platform === "win32" ? "node.exe" : "node",
  );
  // Running it is the only proof: on musl or with an old glibc the file is there and cannot start.
  if (existsSync(file) && spawnSync(file, ["--version"], { stdio: "ignore" }).status === 0) return file;
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 18)) return process.execPath;
  throw new Refusal(
    `no Node 24 package could be installed for ${process.platform}-${process.arch}, and Node ${process.versions.node} cannot run TypeScript`,
    "install Node 22.18 or newer for development (a user of the packages needs only 20.19)",
  );
}

/** The environment for a target: the repository's commands first on the PATH, the user's Node by name, colour on terminals only. */
export function environment() {
  const bin = join(root, "node_modules", ".bin");
  const path = (process.env.PATH ?? "").split(delimiter).filter((entry) => entry !== bin);
  const env = { ...process.env, PATH: [bin, ...path].join(delimiter), SLUICE_USER_NODE: usersNode() };
  // vitest colours its output even into a file.
  if (!process.stdout.isTTY && env.FORCE_COLOR === undefined) env.NO_COLOR ??= "1";
  return env;
}

/**
 * Why the packages under `folder` must be installed, or undefined when they are as its package-lock.json says.
 * @param {string} folder a folder with a package-lock.json
 */
export function installReason(folder) {
  const record = join(folder, "node_modules", ".package-lock.json");
  if (!existsSync(record))
    return existsSync(dirname(record)) ? "the last install did not finish" : "nothing is installed yet";
  const wanted = readPackages(join(folder, "package-lock.json"));
  const present = readPackages(record);
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.startsWith("node_modules/") && !path.includes("/node_modules/")) continue;
    const found = present[path];
    if (!found && (entry.optional || entry.devOptional || entry.peer)) continue;
    if (
      !found ||
      found.version !== entry.version ||
      found.integrity !== entry.integrity ||
      found.link !== entry.link
    ) {
      return `${path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length)} is not as package-lock.json says`;
    }
  }
  return undefined;
}

function readPackages(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages ?? {};
  } catch (error) {
    throw new Refusal(
      `${file} cannot be read: ${error.message}`,
      "restore it (`git checkout package-lock.json`), or delete node_modules",
    );
  }
}

/** Installs what the lockfile of `folder` says, if that has not been done. Never changes the lockfile. */
export function ensureInstalled(folder = root) {
  const why = installReason(folder);
  if (!why) return;
  const name = folder === root ? "" : ` in ${folder.slice(root.length + 1)}/`;
  say(`installing the locked packages${name} with npm ci: ${why}`);
  const started = process.hrtime.bigint();
  // Both groups by name: NODE_ENV=production or an `omit` in a user's .npmrc would leave the compiler out.
  const args = ["ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund", "--loglevel=error"];
  const { command, prefix } = npm();
  const ran = spawnSync(command, [...prefix, ...args], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: installLimitMs,
    env: installEnvironment(),
    shell: process.platform === "win32" && prefix.length === 0,
  });
  if (ran.error || ran.status !== 0) throw installRefusal(folder, ran);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  say(`installed${name} in ${seconds.toFixed(1)} s`);
}

/** npm as the user runs it: through the file npm names when it started us, else from the PATH. */
function npm() {
  const file = process.env.npm_execpath;
  if (file && /npm-cli\.[cm]?js$/.test(file) && existsSync(file))
    return { command: usersNode(), prefix: [file] };
  return { command: "npm", prefix: [] };
}

/** Without what the outer npm run exports about *its* package and command: `npm test --workspace x` must not narrow the install. */
function installEnvironment() {
  const env = {};
  for (const [key, value] of Object.entries(process.env)) {
    if (
      /^npm_(package|lifecycle|command|config_(workspace|workspaces|local_prefix|prefix|include|omit|json|global)$)/i.test(
        key,
      )
    )
      continue;
    env[key] = value;
  }
  return env;
}

function installRefusal(folder, ran) {
  const output = `${ran.stdout ?? ""}${ran.stderr ?? ""}`;
  process.stderr.write(
    output.replace(/npm error Clean install a project[\s\S]*?(?=npm error A complete log|$)/, ""),
  );
  const where = folder === root ? "npm ci" : `npm ci --prefix ${folder.slice(root.length + 1)}`;
  const message = `${where} failed (${ran.error ? (ran.error.code ?? ran.error.message) : (ran.signal ?? `exit ${ran.status}`)})`;
  return new Refusal(message, nextStep(output, ran.error?.code, where));
}

/** The step to take after a failed install, from what npm printed. */
export function nextStep(output, spawnCode, where) {
  if (spawnCode === "ENOENT") return "npm was not found on the PATH: install npm, it comes with Node";
  if (spawnCode === "ETIMEDOUT")
    return `it took longer than ${installLimitMs / 60_000} minutes: check the network, then run \`${where}\` by hand`;
  if (/\b(ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ERR_SOCKET_TIMEOUT)\b/.test(output)) {
    return "npm could not reach its registry: check the network, or `npm config get registry` and `npm config get proxy`";
  }
  if (/\bE(404|TARGET)\b/.test(output))
    return "the registry does not have a locked version: check `npm config get registry` (a mirror may lag behind)";
  if (/\bEINTEGRITY\b/.test(output))
    return "a downloaded package is not the locked one: run `npm cache verify` and try again";
  if (/\bENOSPC\b/.test(output)) return "the disk is full: make about 1 GB of room and try again";
  if (/\b(EACCES|EPERM|EROFS)\b/.test(output))
    return "this user may not write here: check who owns this folder and node_modules";
  if (/\bEUSAGE\b|in sync/.test(output))
    return "package.json and package-lock.json disagree: run `npm install` and commit both";
  return `run \`${where}\` by hand to see npm's full log`;
}

/**
 * Builds TypeScript projects; quick when nothing changed. Without names: the whole tree, tests type-checked as well.
 * @param {string[]} projects folders with a tsconfig.json, relative to the root
 */
export function ensureBuilt(projects = []) {
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  const first = !existsSync(join(root, "packages", "core", "dist", "index.js"));
  if (first) say("building with tsc -b: nothing is built yet");
  const ran = spawnSync(process.execPath, [compiler, "-b", ...projects], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (ran.error || ran.status !== 0) {
    throw new Refusal(
      `the build failed (${["tsc", "-b", ...projects].join(" ")})`,
      "mend the errors above; `npm run build` shows them again",
    );
  }
}

/**
 * Runs `work` while no other process prepares this checkout: two commands started together in a fresh clone would
 * otherwise both run npm ci, and one would delete the node_modules the other has just begun to use.
 */
export async function alone(work) {
  const file = join(root, ".cache", "bootstrap.lock");
  let taken = take(file);
  for (let waited = 0; taken === "no"; waited += 200) {
    if (waited === 1000)
      say(`waiting for another command to finish its set-up (if there is none, delete ${file})`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    taken = take(file);
  }
  try {
    work();
  } finally {
    if (taken === "yes") rmSync(file, { force: true });
  }
}

/** "never" when this user may not write here: then there is either nothing to prepare, or npm will say why it cannot. */
function take(file) {
  const own = `${file}.${process.pid}`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    // Written first and linked after, so that the lock never exists without its owner's pid in it.
    writeFileSync(own, String(process.pid));
    linkSync(own, file);
    return "yes";
  } catch (error) {
    if (error.code !== "EEXIST") return "never";
    const holder = Number(readIfThere(file));
    if (holder > 0 && !isAlive(holder)) rmSync(file, { force: true });
    return "no";
  } finally {
    rmSync(own, { force: true });
  }
}

function readIfThere(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}
