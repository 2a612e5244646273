/** Several Redis servers that act as one: a primary with a replica under three Sentinels, and a cluster. */
import { Redis } from "ioredis";
import { freePort } from "./ports.ts";
import { type RedisServer, startRedis } from "./redis.ts";

const settleLimitMs = 30_000;
const lookEveryMs = 25;

/** A primary and its replica, which Sentinels will put in its place. */
export interface Replicated {
  /** The name by which clients ask the Sentinels. */
  readonly name: string;
  readonly primary: RedisServer;
  readonly replica: RedisServer;
  readonly sentinels: readonly { readonly host: string; readonly port: number }[];
  stop(): Promise<void>;
}

/** Starts a replicated pair and three Sentinels that find the primary down after half a second. */
export async function startReplicated(): Promise<Replicated> {
  const servers: RedisServer[] = [];
  const keep = (server: RedisServer): RedisServer => {
    servers.push(server);
    return server;
  };
  try {
    const primary = keep(await startRedis());
    const replica = keep(await startRedis({ settings: { replicaof: `127.0.0.1 ${primary.port}` } }));
    await withClient(replica, (client) =>
      until("the replica follows", async () =>
        (await client.info("replication")).includes("master_link_status:up"),
      ),
    );
    const sentinels = await Promise.all([1, 2, 3].map(() => startSentinel(primary)));
    for (const sentinel of sentinels) keep(sentinel);
    for (const sentinel of sentinels) {
      await withClient(sentinel, (client) =>
        until("the Sentinels know each other and the replica", async () => {
          const state = (await client.call("SENTINEL", "MASTER", "main")) as
            | string[]
            | Record<string, string>;
          const fields = Array.isArray(state)
            ? Object.fromEntries(state.flatMap((name, i) => (i % 2 === 0 ? [[name, state[i + 1]]] : [])))
            : state;
          return fields["num-other-sentinels"] === "2" && fields["num-slaves"] === "1";
        }),
      );
    }
    const addresses = sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
    return { name: "main", primary, replica, sentinels: addresses, stop: () => stopAll(servers) };
  } catch (error) {
    await stopAll(servers);
    throw error;
  }
}

function startSentinel(primary: RedisServer): Promise<RedisServer> {
  const config = [
    `sentinel monitor main 127.0.0.1 ${primary.port} 2`,
    "sentinel down-after-milliseconds main 500",
    "sentinel failover-timeout main 5000",
  ];
  return startRedis({ configLines: config, extraArguments: ["--sentinel"] });
}

/** A cluster of six: three primaries with a third of the slots each, and a replica for each. */
export interface RedisCluster {
  /** The primaries first, in the order of their slots. */
  readonly nodes: readonly RedisServer[];
  /** Where clients start from. */
  readonly addresses: readonly { readonly host: string; readonly port: number }[];
  stop(): Promise<void>;
}

const slotCount = 16_384;
const primaryCount = 3;

/** Starts a cluster and waits until every node says that it stands. */
export async function startRedisCluster(): Promise<RedisCluster> {
  const busPorts = await Promise.all(Array.from({ length: 2 * primaryCount }, () => freePort()));
  const nodes = await Promise.all(
    busPorts.map((port) =>
      startRedis({
        settings: { "cluster-enabled": "yes", "cluster-node-timeout": 2_000, "cluster-port": port },
      }),
    ),
  );
  const clients = nodes.map((node) => new Redis(node.port, "127.0.0.1"));
  try {
    await form(nodes, clients, busPorts);
  } catch (error) {
    await stopAll(nodes);
    throw error;
  } finally {
    for (const client of clients) client.disconnect();
  }
  const addresses = nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
  return { nodes, addresses, stop: () => stopAll(nodes) };
}

async function form(
  nodes: readonly RedisServer[],
  clients: readonly Redis[],
  busPorts: readonly number[],
): Promise<void> {
  const ids = await Promise.all(clients.map(async (client) => String(await client.cluster("MYID"))));
  for (const [i, client] of clients.slice(0, primaryCount).entries()) {
    await client.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1);
    const [from, to] = [i, i + 1].map((n) => Math.ceil((n * slotCount) / primaryCount));
    await client.call("CLUSTER", "ADDSLOTSRANGE", from!, to! - 1);
  }
  for (const [i, node] of nodes.entries()) {
    if (i > 0) await clients[0]!.call("CLUSTER", "MEET", "127.0.0.1", node.port, busPorts[i]!);
  }
  const knowsAll = async (client: Redis): Promise<boolean> =>
    String(await client.cluster("NODES"))
      .trim()
      .split("\n").length === nodes.length;
  for (const client of clients) await until("every node knows the others", () => knowsAll(client));
  for (const [i, client] of clients.entries()) {
    if (i >= primaryCount) await client.call("CLUSTER", "REPLICATE", ids[i - primaryCount]!);
  }
  for (const client of clients) {
    await until("the cluster stands", async () => {
      const info = String(await client.cluster("INFO"));
      const lines = String(await client.cluster("NODES")).split("\n");
      const replicas = lines.filter((line) => line.includes("slave")).length;
      return info.includes("cluster_state:ok") && replicas === primaryCount;
    });
  }
}

/** Waits until `holds`, looking again and again. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let waitedMs = 0; waitedMs < settleLimitMs; waitedMs += lookEveryMs) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, lookEveryMs));
  }
  throw new Error(`waited ${settleLimitMs / 1000} s in vain until ${what}`);
}

async function withClient<T>(server: RedisServer, work: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(server.port, "127.0.0.1");
  try {
    return await work(client);
  } finally {
    client.disconnect();
  }
}

async function stopAll(servers: readonly RedisServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.stop()));
}
