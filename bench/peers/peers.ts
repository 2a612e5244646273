/** All engines by name. Loaded one by one: a child process pays only for its own. */
import type { Peer } from "./peer.ts";

const loaders = {
  sluice: async (): Promise<Peer> => (await import("./sluice.ts")).sluicePeer,
  "graphile-worker": async (): Promise<Peer> => (await import("./graphile-worker.ts")).graphileWorker,
  "pg-boss": async (): Promise<Peer> => (await import("./pg-boss.ts")).pgBoss,
  dbos: async (): Promise<Peer> => (await import("./dbos.ts")).dbos,
  bullmq: async (): Promise<Peer> => (await import("./bullmq.ts")).bullmq,
  "bare-insert": async (): Promise<Peer> => (await import("./bare-insert.ts")).bareInsert,
  "bare-timer": async (): Promise<Peer> => (await import("./bare-timer.ts")).bareTimer,
} as const;

/** Name of an engine. */
export type PeerName = keyof typeof loaders;

/** The names that `--only` takes, ours first: all but the floors, which belong to their benchmarks. */
export const peerNames: readonly PeerName[] = ["sluice", "graphile-worker", "pg-boss", "dbos", "bullmq"];

/** The engines that keep their data in Redis. */
export const redisPeers: readonly PeerName[] = ["bullmq"];

/** The npm packages whose versions the header names. */
export const peerPackages: readonly string[] = [
  "bullmq",
  "ioredis",
  "@dbos-inc/dbos-sdk",
  "graphile-worker",
  "pg-boss",
  "pg",
  "rate-limiter-flexible",
  "limiter",
];

/** Loads an engine's adapter. */
export function loadPeer(name: PeerName): Promise<Peer> {
  return loaders[name]();
}
