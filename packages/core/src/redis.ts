export type { IoredisClient, NodeRedisClient, RedisClient } from "./stores/redis/client.ts";
export { type RedisStore, type RedisStoreOptions, redis } from "./stores/redis/redis-store.ts";
