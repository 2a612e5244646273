import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { canReach, serverAccount } from "./account.ts";
import { folderPrefix, removeLeftovers } from "./orphans.ts";
import { type PostgresServer, providePostgres, startPostgres } from "./postgres.ts";
import { choiceFromEnvironment, findBinaries } from "./postgres-binaries.ts";

const program = fileURLToPath(new URL("./postgres.ts", import.meta.url));

async function settingsOf(server: PostgresServer, ...names: string[]): Promise<string[]> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  const { rows } = await client.query("select name, setting from pg_settings where name = any($1)", [names]);
  await client.end();
  return names.map((name) => rows.find((row) => row.name === name)?.setting);
}

describe("a test server", () => {
  test("is durable, on loopback only, takes settings, and leaves nothing behind", async () => {
    const server = await startPostgres({ settings: { work_mem: "5MB" } });
    onTestFinished(() => server.stop());
    const names = ["fsync", "listen_addresses", "max_connections", "work_mem"];
    expect(await settingsOf(server, ...names)).toEqual(["on", "127.0.0.1", "200", "5120"]);
    expect(server.url).toBe(`postgres://postgres@127.0.0.1:${server.port}/postgres`);
    await server.stop();
    await server.stop();
    expect(existsSync(dirname(server.dataDir))).toBe(false);
    await expect(server.start()).rejects.toThrow("start a new one");
  });

  test("comes back after an immediate stop with its data, at the same address", async () => {
    const server = await startPostgres();
    onTestFinished(() => server.stop());
    const before = { url: server.url, pid: server.pid };
    const client = new pg.Client({ connectionString: server.url });
    client.on("error", () => {});
    await client.connect();
    await client.query("create table kept as select 7 as n");
    await server.stopImmediate();
    expect(server.pid).toBeUndefined();
    await server.start();
    expect(server.url).toBe(before.url);
    expect(server.pid).not.toBe(before.pid);
    const again = new pg.Client({ connectionString: server.url });
    await again.connect();
    expect((await again.query("select n from kept")).rows).toEqual([{ n: 7 }]);
    await again.end();
  });

  test("is the one named by TEST_DATABASE_URL when that is set, and is not stopped", async () => {
    vi.stubEnv("TEST_DATABASE_URL", "postgres://elsewhere/db");
    onTestFinished(() => void vi.unstubAllEnvs());
    const provided = await providePostgres();
    await provided.stop();
    expect(provided.url).toBe("postgres://elsewhere/db");
  });
});

describe("a test server's end", () => {
  async function startByHand(): Promise<{ parent: ChildProcess; folder: string; pid: number }> {
    const parent = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void parent.kill("SIGKILL"));
    const [url] = (await once(createInterface({ input: parent.stdout }), "line")) as [string];
    const client = new pg.Client({ connectionString: url });
    client.on("error", () => {});
    await client.connect();
    const { rows } = await client.query("select current_setting('data_directory') as data");
    await client.end();
    const pid = Number.parseInt(readFileSync(join(rows[0].data, "postmaster.pid"), "utf8"), 10);
    return { parent, folder: dirname(rows[0].data), pid };
  }

  function isAlive(pid: number): boolean {
    try {
      process.kill(pid, 0);
      return true;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "EPERM";
    }
  }

  test.each(["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"] as const)(
    "comes with its parent's, by %s",
    async (signal) => {
      const { parent, folder, pid } = await startByHand();
      expect(isAlive(pid)).toBe(true);
      parent.kill(signal);
      await vi.waitFor(() => expect([isAlive(pid), existsSync(folder)]).toEqual([false, false]), {
        timeout: 10_000,
      });
    },
  );

  test("is made good by the next start when the watchdog was killed too", () => {
    const parent = mkdtempSync(join(tmpdir(), "leftovers-"));
    onTestFinished(() => rmSync(parent, { recursive: true }));
    const dead = mkdtempSync(join(parent, folderPrefix));
    const living = mkdtempSync(join(parent, folderPrefix));
    const foreign = mkdtempSync(join(parent, "other-"));
    writeFileSync(join(dead, "owner"), "4194999 1");
    writeFileSync(
      join(living, "owner"),
      readFileSync("/proc/self/stat", "utf8").replace(/^(\d+) \(.*\)(?: \S+){19} (\d+).*$/s, "$1 $2"),
    );
    removeLeftovers(parent);
    expect([dead, living, foreign].map((folder) => existsSync(folder))).toEqual([false, true, true]);
  });
});

describe("the search for PostgreSQL's programs", () => {
  test("reads SLUICE_PG and refuses what it does not know", () => {
    expect(["15", "18", "system", "npm", ""].map((text) => choiceFromEnvironment(text))).toEqual([
      15,
      18,
      "system",
      "npm",
      undefined,
    ]);
    expect(() => choiceFromEnvironment("latest")).toThrow(
      'SLUICE_PG: expected a major version, "system" or "npm", got "latest"',
    );
  });

  test("fails loudly, naming every place it looked at and what to do", () => {
    expect(() => findBinaries(99)).toThrow(
      /no PostgreSQL 99 was found\. Looked at: .*TEST_DATABASE_URL.*PG_BIN_DIR/,
    );
  });

  test("has the npm package's server wherever the system has none", () => {
    expect(findBinaries("npm")).toMatchObject({
      version: expect.stringMatching(/^18\.\d+$/),
      packageRoot: expect.any(String),
    });
  });
});

describe("the server's account", () => {
  test("is never root", () => {
    expect(serverAccount()?.uid ?? process.getuid?.()).not.toBe(0);
  });

  test("cannot reach into a private folder of another user", () => {
    const folder = mkdtempSync(join(tmpdir(), "private-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    expect(canReach(folder, { uid: 4_194_000, gid: 4_194_000 })).toBe(false);
    expect(canReach(folder, { uid: process.getuid?.() ?? 0, gid: 0 })).toBe(true);
  });
});
