/**
 * A real PostgreSQL server for tests, the crash run and the benches: on loopback, fsync on, its files in a temporary
 * folder that goes with it. It never outlives the process that started it (see orphans.ts).
 *
 * By hand: `node tools/servers/postgres.ts` starts one, prints its URL and stops it at Ctrl-C.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  chownSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { type Account, reachableTemporaryFolder, serverAccount, serverEnvironment } from "./account.ts";
import { folderPrefix, removeLeftovers, type Watchdog, watchOver } from "./orphans.ts";
import { freePort } from "./ports.ts";
import {
  choiceFromEnvironment,
  findBinaries,
  type PostgresChoice,
  reachableBinaries,
} from "./postgres-binaries.ts";

const startLimitMs = 60_000;
const stopLimitMs = 30_000;
const lookEveryMs = 10;
const startAttempts = 5;
// A socket's path must fit in sockaddr_un (108 bytes on Linux, 104 elsewhere) with ".s.PGSQL.12345" behind it.
const socketFolderLengthMax = 85;

/** How to start a server. */
export interface PostgresOptions {
  /** Lines of postgresql.conf, over the defaults of this module. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  /** Default: SLUICE_PG, else the first PostgreSQL that is found (the system's, then the npm package's). */
  readonly version?: PostgresChoice;
}

/** A PostgreSQL server of ours. */
export interface PostgresServer {
  /** Connection string of the superuser; the same through stop and start. */
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  /** As the server says it: "15.14". */
  readonly version: string;
  /** The postmaster's process id; undefined while stopped. */
  readonly pid: number | undefined;
  /** Starts the server again on the same data and port after `stopImmediate()`; resolves when it takes connections. */
  start(): Promise<void>;
  /** Stops the server in good order (clients are disconnected) and removes its files. Harmless when called twice. */
  stop(): Promise<void>;
  /** As `pg_ctl stop -m immediate`: no checkpoint, so the next start has to recover from the log. Keeps the files. */
  stopImmediate(): Promise<void>;
}

/** Starts a server of its own. Throws when there are no programs to start or when it does not come up; never skips. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  if (process.platform === "win32")
    throw new Error("test servers are not started on Windows: set TEST_DATABASE_URL");
  const binaries = findBinaries(options.version ?? choiceFromEnvironment());
  const account = serverAccount();
  const parent = reachableTemporaryFolder(account);
  removeLeftovers(parent);
  const folder = mkdtempSync(join(parent, `${folderPrefix}postgres-${process.pid}-`));
  const watchdog = watchOver(folder);
  if (account) chownSync(folder, account.uid, account.gid);
  try {
    const programs = reachableBinaries(binaries, account, folder);
    const server = new Server({ folder, programs, account, version: binaries.version, watchdog });
    server.initialise(options.settings ?? {});
    await server.startOnAFreePort();
    return server;
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    watchdog.dismiss();
    throw error;
  }
}

/** What a suite needs of a server: where it is, and a way to give it back. */
export interface ProvidedPostgres {
  readonly url: string;
  stop(): Promise<void>;
}

/** The server named by TEST_DATABASE_URL, which is left running, or else one of our own. */
export async function providePostgres(options: PostgresOptions = {}): Promise<ProvidedPostgres> {
  const url = process.env["TEST_DATABASE_URL"];
  return url ? { url, stop: async () => {} } : startPostgres(options);
}

interface Place {
  readonly folder: string;
  readonly programs: string;
  readonly account: Account | undefined;
  readonly version: string;
  readonly watchdog: Watchdog;
}

class Server implements PostgresServer {
  readonly dataDir: string;
  readonly version: string;
  readonly #place: Place;
  readonly #log: string;
  #port = 0;
  #process: ChildProcess | undefined;
  #removed = false;

  constructor(place: Place) {
    this.#place = place;
    this.version = place.version;
    this.dataDir = join(place.folder, "data");
    this.#log = join(place.folder, "postgres.log");
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.#port}/postgres`;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  initialise(settings: NonNullable<PostgresOptions["settings"]>): void {
    const { folder, programs } = this.#place;
    const args = [
      "-D",
      this.dataDir,
      "-U",
      "postgres",
      "--auth=trust",
      "--encoding=UTF8",
      "--locale=C",
      "--no-sync",
    ];
    const ran = spawnSync(join(programs, "initdb"), args, { ...this.#spawnOptions(), encoding: "utf8" });
    if (ran.error || ran.status !== 0) {
      throw new Error(
        `initdb failed (${ran.error?.message ?? `exit ${ran.status}`}): ${ran.stdout ?? ""}${ran.stderr ?? ""}`,
      );
    }
    const defaults = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: folder.length <= socketFolderLengthMax ? folder : "",
      max_connections: 200,
      fsync: "on",
      logging_collector: "off",
    };
    const lines = Object.entries({ ...defaults, ...settings }).map(
      ([name, value]) => `${name} = '${String(value)}'\n`,
    );
    appendFileSync(join(this.dataDir, "postgresql.conf"), lines.join(""));
  }

  /** Between the look for a free port and the server's own bind, another process may take it; then another port is tried. */
  async startOnAFreePort(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      this.#port = await freePort();
      try {
        return await this.start();
      } catch (error) {
        const taken = /Address already in use/i.test(this.#logTail());
        if (!taken || attempt === startAttempts) throw error;
      }
    }
  }

  async start(): Promise<void> {
    if (this.#removed)
      throw new Error("this PostgreSQL server was stopped and its files are gone: start a new one");
    if (this.#process) return;
    const log = openSync(this.#log, "a");
    // A session of its own: Ctrl-C in the terminal is for the tests, which then stop the server when they are done with it.
    const options: SpawnOptions = { ...this.#spawnOptions(), stdio: ["ignore", log, log], detached: true };
    const child = spawn(
      join(this.#place.programs, "postgres"),
      ["-D", this.dataDir, "-p", String(this.#port)],
      options,
    );
    closeSync(log);
    this.#process = child;
    child.unref();
    const ended = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("exit", (code, signal) => resolve(signal ?? `exit ${code}`));
    });
    void ended.then(() => {
      if (this.#process === child) this.#process = undefined;
    });
    const outcome = await Promise.race([ended, this.#untilReady(child)]);
    if (outcome === "ready") return;
    child.kill("SIGQUIT");
    throw new Error(`PostgreSQL ${this.version} did not start (${outcome}): ${this.#logTail()}`);
  }

  async stop(): Promise<void> {
    if (this.#removed) return;
    this.#removed = true;
    await this.#end("SIGINT");
    rmSync(this.#place.folder, { recursive: true, force: true, maxRetries: 5 });
    this.#place.watchdog.dismiss();
  }

  async stopImmediate(): Promise<void> {
    await this.#end("SIGQUIT");
  }

  async #end(signal: "SIGINT" | "SIGQUIT"): Promise<void> {
    const child = this.#process;
    if (!child) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.ref();
    child.kill(signal);
    const impatience = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
    await ended;
    clearTimeout(impatience);
  }

  /** The postmaster writes its state to the 8th line of its pid file; `pg_ctl -w` waits for the same word. */
  async #untilReady(child: ChildProcess): Promise<string> {
    const file = join(this.dataDir, "postmaster.pid");
    for (let waitedMs = 0; waitedMs < startLimitMs; waitedMs += lookEveryMs) {
      const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
      if (Number(lines[0]) === child.pid && lines[7]?.trim() === "ready") return "ready";
      if (this.#process !== child) return "ended";
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
    }
    return `not ready after ${startLimitMs / 1000} s`;
  }

  #spawnOptions(): Pick<SpawnOptions, "cwd" | "env" | "uid" | "gid"> {
    const { folder, account } = this.#place;
    return { cwd: folder, env: serverEnvironment(folder), ...account };
  }

  #logTail(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, "utf8").split("\n").slice(-15).join("\n") : "";
  }
}

if (import.meta.main) {
  const server = await startPostgres();
  process.stdout.write(`${server.url}\n`);
  process.stderr.write(
    `PostgreSQL ${server.version}, pid ${server.pid}; Ctrl-C stops it and removes its data\n`,
  );
  const alive = setInterval(() => {}, 60_000);
  const end = (): void => {
    clearInterval(alive);
    void server.stop();
  };
  process.once("SIGINT", end);
  process.once("SIGTERM", end);
}
