/** A process that keeps limits in PostgreSQL by one contestant, and answers how many decisions it gets through. */
import { type LimitRule, parseRate, ratePolicy } from "@sluice/core";
import { postgres } from "@sluice/core/postgres";
import { Pool } from "pg";
import { RateLimiterPostgres } from "rate-limiter-flexible";
import { serveCalls } from "../harness/child-program.ts";
import { percentile } from "../harness/statistics.ts";

/** Who decides: a peer, or one of our algorithms. */
export type Contestant =
  | "rate-limiter-flexible"
  | "token-bucket"
  | "sliding-window"
  | "fixed-window"
  | "all of three";

/** Argument of `open`. */
export interface OpenCall {
  readonly url: string;
  readonly contestant: Contestant;
  /** How many keys there are; each is used once before the measuring. */
  readonly keys: number;
}

/** Argument of `load`. */
export interface LoadCall {
  readonly inFlight: number;
  readonly seconds: number;
  /** Whether all decisions are about one key. */
  readonly hot: boolean;
}

/** What a load came to. */
export interface LoadResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

type Decide = (key: string) => Promise<unknown>;

let decide: Decide | undefined;
let keys = 0;

/** Nothing is ever denied, so that all contestants do the same work. Not through `limit()`: its cost is the same in every store. */
async function openOurs(pool: Pool, contestant: Contestant): Promise<Decide> {
  const store = postgres(pool);
  const rule = (
    name: string,
    rate: string,
    algorithm: "token-bucket" | "sliding-window" | "fixed-window",
  ): LimitRule => Object.freeze({ name, policy: ratePolicy(parseRate(rate), { algorithm }) });
  if (contestant === "all of three") {
    const [user, tenant, everybody] = ["user", "tenant", "everybody"].map((name) =>
      rule(name, "100000/s", "token-bucket"),
    ) as [LimitRule, LimitRule, LimitRule];
    return (key) =>
      store.consumeAll([
        { rule: user, key, cost: 1 },
        { rule: tenant, key: key.slice(-2), cost: 1 },
        { rule: everybody, key: "", cost: 1 },
      ]);
  }
  const algorithm = contestant as "token-bucket" | "sliding-window" | "fixed-window";
  const one = rule("bench", algorithm === "sliding-window" ? "1000/60s" : "100000000/60s", algorithm);
  return (key) => store.consume(one, key, 1);
}

function openPeer(pool: Pool): Promise<Decide> {
  return new Promise((resolve, reject) => {
    const options = {
      storeClient: pool,
      points: 100_000_000,
      duration: 60,
      keyPrefix: "bench",
      tableName: "peer",
    };
    const limiter = new RateLimiterPostgres(options, (error) => {
      if (error) reject(error);
      else resolve((key) => limiter.consume(key, 1));
    });
  });
}

async function open(call: OpenCall): Promise<void> {
  // The same pool for everybody, of pg's default size.
  const pool = new Pool({ connectionString: call.url, max: 10 });
  decide =
    call.contestant === "rate-limiter-flexible"
      ? await openPeer(pool)
      : await openOurs(pool, call.contestant);
  keys = call.keys;
  let next = 0;
  const fill = async (): Promise<void> => {
    while (next < keys) await decide!(`user:${next++}`);
  };
  await Promise.all(Array.from({ length: 500 }, fill));
}

async function load({ inFlight, seconds, hot }: LoadCall): Promise<LoadResult> {
  const timesMs: number[] = [];
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  const ask = async (): Promise<void> => {
    for (let beganMs = performance.now(); beganMs < endMs; ) {
      await decide!(hot ? "hot" : `user:${Math.floor(Math.random() * keys)}`);
      const nowMs = performance.now();
      timesMs.push(nowMs - beganMs);
      beganMs = nowMs;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, ask));
  return {
    perSecond: timesMs.length / ((performance.now() - startMs) / 1000),
    p50Ms: percentile(timesMs, 0.5),
    p99Ms: percentile(timesMs, 0.99),
  };
}

serveCalls({ open, load });
