/** A process that asks Redis for decisions in one way, as often as it can, and says how often that was. */
import { parseRate, ratePolicy } from "@sluice/core";
import { type RedisStore, redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { Redis as Valkey } from "iovalkey";
import { RateLimiterRedis } from "rate-limiter-flexible";
import { createClient } from "redis";
import { serveCalls } from "../harness/child-program.ts";

/** What to measure with. */
export interface OpenCall {
  readonly url: string;
  readonly contestant: string;
}

/** How to measure. */
export interface MeasureCall {
  readonly inFlight: number;
  readonly keys: number;
  readonly seconds: number;
}

type Ask = (key: string) => Promise<unknown>;

/** The least that a limiter on Redis can do: GCRA on one key, on the server's clock, in one script. */
const bareScript = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if tat < now then tat = now end
local next = tat + ARGV[1] * ARGV[2]
if next > now + ARGV[1] * ARGV[3] then return { 0, tat - now } end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return { 1, next - now }`;

const bucketOf = (name: string) =>
  Object.freeze({ name, policy: ratePolicy(parseRate("1000/60s"), { algorithm: "token-bucket" }) });
const bucket = bucketOf("per-second");
const log = Object.freeze({
  name: "log",
  policy: ratePolicy(parseRate("1000/60s"), { algorithm: "sliding-window" }),
});
const window = Object.freeze({
  name: "window",
  policy: ratePolicy(parseRate("1000/60s"), { algorithm: "fixed-window" }),
});
const three = [bucket, bucketOf("per-minute"), bucketOf("per-day")];

function all(store: RedisStore): Ask {
  return (key) => store.consumeAll(three.map((rule) => ({ rule, key, cost: 1 })));
}

const contestants: Readonly<Record<string, (url: string) => Promise<Ask>>> = {
  async bare(url) {
    const client = new Redis(url);
    const sha = String(await client.script("LOAD", bareScript));
    return (key) => client.evalsha(sha, 1, `bare:${key}`, "60000", "1", "1000");
  },
  async "rate-limiter-flexible"(url) {
    const storeClient = new Redis(url);
    const limiter = new RateLimiterRedis({ storeClient, points: 1_000, duration: 60 });
    // It rejects what it denies.
    return (key) => limiter.consume(key).catch((denial: unknown) => denial);
  },
  async sluice(url) {
    const store = redis(new Redis(url));
    return (key) => store.consume(bucket, key, 1);
  },
  async "sluice log"(url) {
    const store = redis(new Redis(url));
    return (key) => store.consume(log, key, 1);
  },
  async "sluice window"(url) {
    const store = redis(new Redis(url));
    return (key) => store.consume(window, key, 1);
  },
  async "sluice all"(url) {
    return all(redis(new Redis(url)));
  },
  async "sluice iovalkey"(url) {
    const store = redis(new Valkey(url));
    return (key) => store.consume(bucket, key, 1);
  },
  async "sluice node-redis"(url) {
    const client = createClient({ url });
    await client.connect();
    const store = redis(client);
    return (key) => store.consume(bucket, key, 1);
  },
};

let ask: Ask;

async function open({ url, contestant }: OpenCall): Promise<void> {
  ask = await contestants[contestant]!(url);
  await measure({ inFlight: 100, keys: 10_000, seconds: 0.5 });
}

/** Decisions per second. */
async function measure({ inFlight, keys, seconds }: MeasureCall): Promise<number> {
  let count = 0;
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  const caller = async (first: number): Promise<void> => {
    for (let i = first; performance.now() < endMs; i += inFlight) {
      await ask(`user:${i % keys}`);
      count++;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, (_, i) => caller(i)));
  return (count * 1000) / (performance.now() - startMs);
}

serveCalls({ open, measure });
