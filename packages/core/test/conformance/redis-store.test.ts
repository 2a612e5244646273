import { redis } from "@sluice/core/redis";
import { storeConformance } from "@sluice/core/testing";
import { Redis } from "ioredis";
import { Redis as Valkey } from "iovalkey";
import { createClient } from "redis";
import { afterAll, describe, test } from "vitest";
import { freshRedis } from "../../../../tools/testing/redis.ts";

const { url, prefix } = freshRedis("conformance");
const lazily = { lazyConnect: true };
const ioredis = new Redis(url, lazily);
const iovalkey = new Valkey(url, lazily);
const nodeRedis = createClient({ url });
let connected: Promise<unknown> | undefined;

afterAll(async () => {
  ioredis.disconnect();
  iovalkey.disconnect();
  if (connected !== undefined) await nodeRedis.close();
});

describe.each([
  ["ioredis", ioredis],
  ["iovalkey", iovalkey],
  ["node-redis", nodeRedis],
] as const)("the Redis store over %s", (name, client) => {
  let stores = 0;
  const cases = storeConformance(async (clock) => {
    if (client === nodeRedis) {
      connected ??= nodeRedis.connect();
      await connected;
    }
    return redis(client, { prefix: `${prefix}:${name}:${stores++}`, nowUs: () => clock.nowUs() });
  });
  for (const each of cases) test(each.name, each.run);
});
