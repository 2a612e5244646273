/**
 * Real Redis or Valkey servers for tests and benches: on loopback and free ports, with files in a temporary folder that
 * goes with them. One server here; a replicated pair with a Sentinel and a cluster in redis-topologies.ts. None outlives
 * the process that started it (see orphans.ts).
 *
 * By hand: `node tools/servers/redis.ts` starts one, prints its URL and stops it at Ctrl-C.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { folderPrefix, removeLeftovers, watchOver } from "./orphans.ts";
import { freePort } from "./ports.ts";
import { findRedis, type RedisBinary, redisEnvironment } from "./redis-binaries.ts";

const startLimitMs = 20_000;
const stopLimitMs = 5_000;
const lookEveryMs = 10;
const startAttempts = 5;

/** How to start a server. */
export interface RedisOptions {
  /** Settings by the names of redis.conf, over the defaults of this module (nothing is persisted). */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Lines of a configuration file of its own, which the server may rewrite, as a Sentinel does. */
  readonly configLines?: readonly string[];
  /** Arguments after all others, such as `--sentinel`. */
  readonly extraArguments?: readonly string[];
  /** Added to the server's environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A server of ours. */
export interface RedisServer {
  readonly url: string;
  readonly port: number;
  readonly binary: RedisBinary;
  /** Undefined while stopped. */
  readonly pid: number | undefined;
  /** Starts the server again, on the same port, after `kill()`; resolves when it takes connections. */
  start(): Promise<void>;
  /** Kills the server; it has lost everything unless settings say otherwise. Keeps its folder. */
  kill(): Promise<void>;
  /** Stops the process in its tracks: connections stay open and nothing answers, until `resume()`. */
  pause(): void;
  resume(): void;
  /** Ends the server and removes its files. Harmless when called twice. */
  stop(): Promise<void>;
}

/** Starts a server of its own. Throws when there is no program to start or it does not come up; never skips. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const found = findRedis();
  if ("missing" in found) throw new Error(found.missing);
  removeLeftovers(tmpdir());
  for (let attempt = 1; ; attempt++) {
    const server = new Server(found.binary, await freePort(), options);
    try {
      await server.start();
      return server;
    } catch (error) {
      const taken = /Address already in use|bind:/i.test(String(error));
      await server.stop();
      if (!taken || attempt === startAttempts) throw error;
    }
  }
}

/** What a suite needs of a server: where it is, or why there is none, and a way to give it back. */
export interface ProvidedRedis {
  readonly url: string | undefined;
  readonly missing: string | undefined;
  stop(): Promise<void>;
}

/**
 * The server named by TEST_REDIS_URL, which is left running, or one of our own, or the reason why there is none.
 * @throws when SLUICE_REQUIRE_SERVERS is set and there is none: continuous integration must not pass by skipping.
 */
export async function provideRedis(): Promise<ProvidedRedis> {
  const url = process.env["TEST_REDIS_URL"];
  if (url) return { url, missing: undefined, stop: async () => {} };
  const found = findRedis();
  if ("missing" in found) {
    if (process.env["SLUICE_REQUIRE_SERVERS"]) throw new Error(found.missing);
    return { url: undefined, missing: found.missing, stop: async () => {} };
  }
  const server = await startRedis();
  return { url: server.url, missing: undefined, stop: () => server.stop() };
}

class Server implements RedisServer {
  readonly port: number;
  readonly binary: RedisBinary;
  readonly #options: RedisOptions;
  readonly #folder: string;
  readonly #log: string;
  readonly #watchdog: { dismiss(): void };
  #process: ChildProcess | undefined;
  #removed = false;

  constructor(binary: RedisBinary, port: number, options: RedisOptions) {
    this.binary = binary;
    this.port = port;
    this.#options = options;
    this.#folder = mkdtempSync(join(tmpdir(), `${folderPrefix}redis-${process.pid}-`));
    this.#log = join(this.#folder, "redis.log");
    this.#watchdog = watchOver(this.#folder);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async start(): Promise<void> {
    if (this.#removed)
      throw new Error("this Redis server was stopped and its files are gone: start a new one");
    if (this.#process) return;
    const log = openSync(this.#log, "w");
    const child = spawn(this.binary.file, this.#arguments(), {
      cwd: this.#folder,
      stdio: ["ignore", log, log],
      // A session of its own: Ctrl-C in the terminal is for the tests, which then stop the server when they are done.
      detached: true,
      env: { ...redisEnvironment(this.binary.libraries), ...this.#options.environment },
    });
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
    child.kill("SIGKILL");
    throw new Error(`${this.binary.file} did not start (${outcome}): ${this.#logTail()}`);
  }

  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  pause(): void {
    this.#process?.kill("SIGSTOP");
  }

  resume(): void {
    this.#process?.kill("SIGCONT");
  }

  async stop(): Promise<void> {
    if (this.#removed) return;
    this.#removed = true;
    this.resume();
    await this.#end("SIGTERM");
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
    this.#watchdog.dismiss();
  }

  async #end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (!child) return;
    child.ref();
    const ended = once(child, "exit");
    child.kill(signal);
    const impatience = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
    await ended;
    clearTimeout(impatience);
  }

  #arguments(): string[] {
    const settings = {
      port: this.port,
      bind: "127.0.0.1",
      dir: this.#folder,
      save: "",
      appendonly: "no",
      // The watchdog knows the process by its folder, which the server would write over in its title.
      "set-proc-title": "no",
      pidfile: join(this.#folder, "redis.pid"),
      ...this.#options.settings,
    };
    const given = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const { configLines, extraArguments = [] } = this.#options;
    if (configLines === undefined) return [...given, ...extraArguments];
    const config = join(this.#folder, "redis.conf");
    if (!existsSync(config)) writeFileSync(config, `${configLines.join("\n")}\n`);
    return [config, ...given, ...extraArguments];
  }

  async #untilReady(child: ChildProcess): Promise<string> {
    for (let waitedMs = 0; waitedMs < startLimitMs; waitedMs += lookEveryMs) {
      if (this.#process !== child) return "ended";
      // The log, too: another process may have taken the port and would answer in its place.
      if (/Ready to accept connections|Sentinel ID is/.test(this.#logTail()) && (await answers(this.port)))
        return "ready";
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
    }
    return `not ready after ${startLimitMs / 1000} s`;
  }

  #logTail(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, "utf8").split("\n").slice(-15).join("\n") : "";
  }
}

/** Whether something on the port answers PING. */
async function answers(port: number): Promise<boolean> {
  const socket = connect({ host: "127.0.0.1", port });
  try {
    await once(socket, "connect");
    socket.write("PING\r\n");
    const [data] = (await once(socket, "data")) as [Buffer];
    return data.toString().startsWith("+PONG");
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

if (import.meta.main) {
  const server = await startRedis();
  process.stdout.write(`${server.url}\n`);
  process.stderr.write(
    `${server.binary.flavour} ${server.binary.version}, pid ${server.pid}; Ctrl-C stops it\n`,
  );
  const alive = setInterval(() => {}, 60_000);
  const end = (): void => {
    clearInterval(alive);
    void server.stop();
  };
  process.once("SIGINT", end).once("SIGTERM", end).once("SIGHUP", end);
}
