/**
 * The servers of a run: one PostgreSQL (fsync on) and, if a binary is found, one Redis (append-only file, fsync every
 * second), both new, on loopback and a free port, and gone afterwards. Every row gets a database of its own.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { Client } from "pg";
import { freePort } from "../../tools/servers/ports.ts";
import { startPostgres } from "../../tools/servers/postgres.ts";
import { pause } from "./monotonic-clock.ts";

/** Servers that a run uses. */
export interface Servers {
  /** URL of the maintenance database of the PostgreSQL server. */
  readonly postgresUrl: string;
  /** URL of the Redis server; undefined without a binary. */
  readonly redisUrl: string | undefined;
  /** What the servers are, for the header. */
  readonly description: Readonly<Record<string, string>>;
  /** Creates an empty database and settles the server (checkpoint); the last one created before is dropped. */
  freshDatabase(): Promise<string>;
  /** After a bulk load, so that every engine starts from the same ground: planner statistics and a checkpoint. */
  settle(url: string): Promise<void>;
  /** Stops both. */
  stop(): Promise<void>;
}

function findRedis(): string | undefined {
  const named = process.env["REDIS_SERVER_BIN"] ?? process.env["VALKEY_SERVER_BIN"];
  if (named !== undefined) return named;
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const files = folders.flatMap((folder) => [join(folder, "redis-server"), join(folder, "valkey-server")]);
  return files.find((file) => existsSync(file));
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect({ host: "127.0.0.1", port });
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

interface RedisServer {
  readonly url: string;
  readonly version: string;
  stop(): Promise<void>;
}

async function startRedis(): Promise<RedisServer | undefined> {
  const binary = findRedis();
  if (binary === undefined) return undefined;
  const version = execFileSync(binary, ["--version"], { encoding: "utf8" }).trim();
  const folder = mkdtempSync(join(tmpdir(), "sluice-bench-redis-"));
  const port = await freePort();
  const durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""];
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, ...durable];
  const server: ChildProcess = spawn(binary, args, { stdio: "ignore" });
  for (let i = 0; !(await accepts(port)); i++) {
    if (i === 200 || server.exitCode !== null) throw new Error(`${binary} does not start`);
    await pause(25);
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    version: /v=(\S+)/.exec(version)?.[1] ?? version,
    stop: async () => {
      if (server.exitCode === null && server.kill("SIGTERM")) await once(server, "exit");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const shownSettings = ["fsync", "synchronous_commit", "wal_sync_method", "shared_buffers", "max_wal_size"];

/** Room enough that neither memory nor checkpoints bound a run; everything else is PostgreSQL's default. */
const postgresSettings = { fsync: "on", shared_buffers: "512MB", max_wal_size: "8GB" };

/** Starts the servers. */
export async function startServers(): Promise<Servers> {
  const postgres = await startPostgres({ settings: postgresSettings });
  const redis = await startRedis();
  const settings = await withClient(postgres.url, async (client) => {
    const { rows } = await client.query<{ name: string; value: string }>(
      "SELECT name, current_setting(name) AS value FROM pg_settings WHERE name = ANY ($1)",
      [shownSettings],
    );
    const version = await client.query<{ server_version: string }>("SHOW server_version");
    const list = rows.map(({ name, value }) => `${name} ${value}`).join(", ");
    return `${version.rows[0]?.server_version} (${list})`;
  });
  let count = 0;
  let previous: string | undefined;
  return {
    postgresUrl: postgres.url,
    redisUrl: redis?.url,
    description: {
      PostgreSQL: settings,
      Redis: redis ? `${redis.version} (appendonly yes, appendfsync everysec)` : "none found",
    },
    freshDatabase: () =>
      withClient(postgres.url, async (client) => {
        if (previous !== undefined) await client.query(`DROP DATABASE IF EXISTS ${previous} WITH (FORCE)`);
        previous = `bench_${process.pid}_${++count}`;
        await client.query(`CREATE DATABASE ${previous}`);
        await client.query("CHECKPOINT");
        const url = new URL(postgres.url);
        url.pathname = `/${previous}`;
        return url.href;
      }),
    settle: (url) =>
      withClient(url, async (client) => {
        await client.query("VACUUM ANALYZE");
        await client.query("CHECKPOINT");
      }),
    stop: async () => {
      await redis?.stop();
      await postgres.stop();
    },
  };
}
