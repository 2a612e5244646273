import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { requireRedis } from "../testing/redis.ts";
import { folderPrefix } from "./orphans.ts";
import { provideRedis, type RedisServer, startRedis } from "./redis.ts";
import { findRedis } from "./redis-binaries.ts";

requireRedis();

async function started(): Promise<{ server: RedisServer; client: Redis }> {
  const server = await startRedis({ settings: { maxclients: 77 } });
  const client = new Redis(server.port, { retryStrategy: () => 10 });
  client.on("error", () => {});
  onTestFinished(async () => {
    client.disconnect();
    await server.stop();
  });
  return { server, client };
}

const folders = (): string[] =>
  readdirSync(tmpdir()).filter((name) => name.startsWith(`${folderPrefix}redis-${process.pid}-`));

describe("a test server", () => {
  test("is on loopback only, takes settings, persists nothing and leaves nothing behind", async () => {
    const { server, client } = await started();
    const config = (await client.config("GET", "*")) as unknown as Record<string, string> | string[];
    const text = JSON.stringify(config);
    expect(text).toMatch(/"bind"[:,]"127\.0\.0\.1"/);
    expect(text).toMatch(/"maxclients"[:,]"77"/);
    expect(text).toMatch(/"appendonly"[:,]"no"/);
    expect(folders().length).toBe(1);
    client.disconnect();
    await server.stop();
    await server.stop();
    expect(folders()).toEqual([]);
    await expect(server.start()).rejects.toThrow("start a new one");
  });

  test("comes back empty at the same address after a kill", async () => {
    const { server, client } = await started();
    await client.set("a", "1");
    const { pid, url } = server;
    await server.kill();
    expect(server.pid).toBeUndefined();
    await server.start();
    expect([server.url, server.pid === pid]).toEqual([url, false]);
    expect(await client.get("a")).toBeNull();
  });

  test("stands still while paused", async () => {
    const { server, client } = await started();
    await client.ping();
    server.pause();
    let answered = false;
    const pong = client.ping().then(() => {
      answered = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(answered).toBe(false);
    server.resume();
    await pong;
  });

  test.each(["SIGKILL", "SIGTERM"] as const)("ends with its parent, by %s", async (signal) => {
    const program = fileURLToPath(new URL("./redis.ts", import.meta.url));
    const parent = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "ignore"] });
    onTestFinished(() => void parent.kill("SIGKILL"));
    const [url] = (await once(createInterface({ input: parent.stdout }), "line")) as [string];
    const client = new Redis(url, { retryStrategy: () => null });
    client.on("error", () => {});
    await client.ping();
    const ended = once(client, "end");
    parent.kill(signal);
    await ended;
    client.disconnect();
  });
});

describe("the search for a server", () => {
  test("names every place it looked at, and what to do", () => {
    vi.stubEnv("PATH", "/nowhere");
    vi.stubEnv("REDIS_SERVER_BIN", "/no/redis-server");
    onTestFinished(() => void vi.unstubAllEnvs());
    const found = findRedis({ download: false });
    if ("binary" in found) expect(existsSync(found.binary.file)).toBe(true);
    else expect(found.missing).toMatch(/Looked at: \/no\/redis-server .*TEST_REDIS_URL.*REDIS_SERVER_BIN/);
  });

  test("takes TEST_REDIS_URL as it is, and does not stop what is there", async () => {
    vi.stubEnv("TEST_REDIS_URL", "redis://elsewhere:1");
    onTestFinished(() => void vi.unstubAllEnvs());
    const provided = await provideRedis();
    await provided.stop();
    expect(provided).toMatchObject({ url: "redis://elsewhere:1", missing: undefined });
  });
});
