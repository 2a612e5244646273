/**
 * One contestant in a process of its own, so that no other one has taught its code to the compiler: asks it a number of
 * times and prints the nanoseconds of a call; or fills it with keys and prints the bytes of one.
 *
 *     node --expose-gc in-process-contestant.ts NAME time  KEYS allowed|denied
 *     node --expose-gc in-process-contestant.ts NAME bytes KEYS
 */
import { type KeyedLimit, limit, type RateAlgorithm } from "@sluice/core";
import { RateLimiter } from "limiter";
import { RateLimiterMemory } from "rate-limiter-flexible";

/** Asks for cost 1 of a key; truthy when it was allowed. By promise where the peer answers so. */
type Ask = (key: string) => boolean | Promise<boolean>;

/** A budget that a run never uses up, or one that the first call does. */
interface Terms {
  readonly amount: number;
  readonly periodMs: number;
}

/** What one writes who needs only this: the least that a decision can cost. */
function handWritten({ amount, periodMs }: Terms): Ask {
  const interval = periodMs / amount;
  const fill = amount * interval;
  const tats = new Map<string, number>();
  const decide = (key: string): { allowed: boolean; remaining: number; retryAfterMs: number } => {
    const now = performance.now();
    const next = Math.max(tats.get(key) ?? now, now) + interval;
    if (next - now > fill) return { allowed: false, remaining: 0, retryAfterMs: next - now - fill };
    tats.set(key, next);
    return { allowed: true, remaining: Math.floor((fill - (next - now)) / interval), retryAfterMs: 0 };
  };
  return (key) => decide(key).allowed;
}

function sluice(algorithm: RateAlgorithm): (terms: Terms) => Ask {
  return ({ amount, periodMs }) => {
    const l = limit("bench", { limit: amount, periodMs }, { algorithm, maxKeys: 2_000_000 });
    return (key) => l.check(key).allowed;
  };
}

/** The same limit, its keys held on to. */
function sluiceHeld({ amount, periodMs }: Terms): Ask {
  const l = limit("bench", { limit: amount, periodMs }, { algorithm: "token-bucket", maxKeys: 2_000_000 });
  const held = new Map<string, KeyedLimit<"now">>();
  const hold = (key: string): KeyedLimit<"now"> => {
    const keyed = l.for(key);
    held.set(key, keyed);
    return keyed;
  };
  const one = hold("user:0");
  return (key) => (key === "user:0" ? one : (held.get(key) ?? hold(key))).tryAcquire().allowed;
}

function flexible({ amount, periodMs }: Terms): Ask {
  const peer = new RateLimiterMemory({ points: amount, duration: periodMs / 1000 });
  const yes = (): boolean => true;
  const no = (): boolean => false;
  return (key) => peer.consume(key).then(yes, no);
}

function limiter({ amount, periodMs }: Terms): Ask {
  const buckets = new Map<string, RateLimiter>();
  return (key) => {
    let bucket = buckets.get(key);
    if (bucket === undefined) {
      bucket = new RateLimiter({ tokensPerInterval: amount, interval: periodMs });
      buckets.set(key, bucket);
    }
    return bucket.tryRemoveTokens(1);
  };
}

const contestants: Readonly<Record<string, (terms: Terms) => Ask>> = {
  "hand-written": handWritten,
  "token-bucket": sluice("token-bucket"),
  "sliding-window": sluice("sliding-window"),
  "fixed-window": sluice("fixed-window"),
  held: sluiceHeld,
  "rate-limiter-flexible": flexible,
  limiter,
};

async function time(make: (terms: Terms) => Ask, keyCount: number, denied: boolean): Promise<number> {
  // The period outlasts the run; a sliding window of 10^9 is kept in cells, one of 1 in a log.
  const ask = make(
    denied ? { amount: 1, periodMs: 86_400_000 } : { amount: 1_000_000_000, periodMs: 1_000_000 },
  );
  const keys = Array.from({ length: keyCount }, (_, i) => `user:${i}`);
  const isLater = typeof ask(keys[0]!) !== "boolean";
  const calls = isLater ? 400_000 : 2_000_000;
  const round = async (count: number): Promise<number> => {
    let allowed = 0;
    for (let i = 0, k = 0; i < count; i++, k = k + 1 === keyCount ? 0 : k + 1) {
      const answer = ask(keys[k]!);
      if (isLater ? await answer : answer) allowed++;
    }
    return allowed;
  };
  await round(Math.max(calls / 2, 2 * keyCount));
  // The thread's own time: what a busy machine takes away in between says nothing about the contestant.
  const begun = process.threadCpuUsage();
  const allowed = await round(calls);
  const { user, system } = process.threadCpuUsage(begun);
  const ns = ((user + system) * 1000) / calls;
  if (allowed !== (denied ? 0 : calls)) throw new Error(`${allowed} of ${calls} were allowed`);
  return ns;
}

async function bytes(make: (terms: Terms) => Ask, keyCount: number): Promise<number> {
  const ask = make({ amount: 100, periodMs: 86_400_000 });
  const used = (): number => {
    globalThis.gc?.();
    globalThis.gc?.();
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    return heapUsed + external + arrayBuffers - Math.min(external, arrayBuffers);
  };
  await ask("first");
  const before = used();
  for (let i = 0; i < keyCount; i++) await ask(`user:${i}`);
  const after = used();
  // Asked once more, so that nothing of it is garbage yet.
  await ask("user:0");
  return (after - before) / keyCount;
}

const [name = "", what, keys = "1", outcome] = process.argv.slice(2);
const make = contestants[name];
if (make === undefined) throw new Error(`no contestant ${name}`);
const figure =
  what === "bytes" ? await bytes(make, Number(keys)) : await time(make, Number(keys), outcome === "denied");
process.stdout.write(`${figure}\n`);
// A peer that keeps a timer for each key would stay for as long as its period.
process.exit(0);
