/**
 * The clients the store speaks through, by the one method of each that it uses. They are handed in by the user, who connects,
 * watches and closes them.
 */
import type { Script } from "./script.generated.ts";

/** ioredis or iovalkey: a client or a cluster. */
export interface IoredisClient {
  /** True for a cluster. */
  readonly isCluster?: boolean;
  evalsha(sha1: string, numberOfKeys: number, ...keysAndArguments: string[]): PromiseLike<unknown>;
  eval(script: string, numberOfKeys: number, ...keysAndArguments: string[]): PromiseLike<unknown>;
}

/** node-redis (the package `redis`): a client, a pool or a cluster. */
export interface NodeRedisClient {
  evalSha(sha1: string, options: { keys: string[]; arguments: string[] }): PromiseLike<unknown>;
  eval(script: string, options: { keys: string[]; arguments: string[] }): PromiseLike<unknown>;
}

/** A client that {@link redis} takes. */
export type RedisClient = IoredisClient | NodeRedisClient;

/** The store's way to the server. */
export interface Connection {
  /** Whether keys of different slots may lie on different servers. */
  readonly isCluster: boolean;
  /** Runs a script by its name. Rejects with the client's own error, NOSCRIPT when the server does not know it. */
  run(script: Script, keys: string[], parameters: readonly string[]): PromiseLike<unknown>;
  /** Runs a script in full, by which the server learns it. */
  teach(script: Script, keys: string[], parameters: readonly string[]): PromiseLike<unknown>;
}

/** Whether `value` is a client of one of the three. */
export function isRedisClient(value: unknown): value is RedisClient {
  if (typeof value !== "object" || value === null) return false;
  const { evalsha, evalSha, eval: evaluate } = value as Record<"evalsha" | "evalSha" | "eval", unknown>;
  return (typeof evalsha === "function" || typeof evalSha === "function") && typeof evaluate === "function";
}

/** The connection through a client. */
export function connectionOf(client: RedisClient): Connection {
  return "evalSha" in client ? nodeRedisConnection(client) : ioredisConnection(client);
}

function ioredisConnection(client: IoredisClient): Connection {
  return {
    isCluster: client.isCluster === true,
    run: ({ sha1 }, keys, parameters) => client.evalsha(sha1, keys.length, ...keys, ...parameters),
    teach: ({ text }, keys, parameters) => client.eval(text, keys.length, ...keys, ...parameters),
  };
}

function nodeRedisConnection(client: NodeRedisClient): Connection {
  return {
    // Only its clusters know their masters.
    isCluster: "masters" in client && "slots" in client,
    run: ({ sha1 }, keys, parameters) => client.evalSha(sha1, { keys, arguments: [...parameters] }),
    teach: ({ text }, keys, parameters) => client.eval(text, { keys, arguments: [...parameters] }),
  };
}
