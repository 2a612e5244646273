/** One process of a fleet: asks a store for what it is told to until its time is over, and prints what was admitted. */
import { concurrencyPolicy, type Draw, type LimitRule, parseRate, ratePolicy } from "@sluice/core";
import { postgres } from "@sluice/core/postgres";
import pg from "pg";

/** What to do, as JSON in the first argument. */
export interface Order {
  readonly url: string;
  readonly schema: string;
  readonly kind: "one-key" | "groups" | "slots" | "churn";
  readonly rate: string;
  readonly algorithm: "token-bucket" | "sliding-window" | "fixed-window";
  readonly durationMs: number;
}

/** What one process saw: the admissions by key, each with the store's time, how many it asked for, and what went wrong. */
export interface Report {
  readonly admitted: Readonly<Record<string, readonly (readonly [atUs: number, cost: number])[]>>;
  readonly asked: number;
  readonly faults: readonly string[];
}

const order = JSON.parse(process.argv[2]!) as Order;
const pool = new pg.Pool({ connectionString: order.url, max: 4 });
const store = postgres(pool, { schema: order.schema, maxBatch: 32, maxStatements: 3 });
const policy = ratePolicy(parseRate(order.rate), { algorithm: order.algorithm });
const rule: LimitRule = Object.freeze({ name: "fleet", policy });
const slots: LimitRule = Object.freeze({ name: "slots", policy: concurrencyPolicy(3, 60_000_000) });
const admitted: Record<string, [number, number][]> = {};
const faults = new Set<string>();
let asked = 0;

function below(bound: number): number {
  return Math.floor(Math.random() * bound);
}

function note(key: string, atUs: number, cost: number): void {
  admitted[key] ??= [];
  admitted[key].push([atUs, cost]);
}

async function askOneKey(): Promise<void> {
  const cost = 1 + below(3);
  const verdict = await store.consume(rule, "hot", cost);
  if (verdict.allowed) note("hot", verdict.atUs, cost);
}

/** Keys in any order, so that nobody's order of asking is the order of locking. */
async function askGroup(): Promise<void> {
  const keys = [...new Set(Array.from({ length: 4 }, () => `k${below(12)}`))];
  const draws: Draw[] = keys.map((key) => ({ rule, key, cost: 1 }));
  const verdicts = await store.consumeAll(draws);
  if (verdicts.some(({ granted }) => granted > 0) && !verdicts.every(({ granted }) => granted === 1))
    faults.add("a group was admitted in part");
  for (const [i, { granted, atUs }] of verdicts.entries()) if (granted > 0) note(keys[i]!, atUs, granted);
}

/** Holds a slot for a moment and notes when, by the store's fences, which rise. */
async function holdSlot(): Promise<void> {
  const { allowed, fence } = await store.consume(slots, "k", 1);
  if (!allowed) return;
  note("held", fence, 1);
  const { remaining } = await store.peek(slots, "k", 1);
  if (remaining > 2) faults.add(`${remaining} slots free while one is held`);
  if (!(await store.release(slots, "k", fence))) faults.add("a held slot could not be released");
}

/** Ever new keys, all in use for a moment, in every process alike. */
async function churn(): Promise<void> {
  const key = `${Math.floor(performance.timeOrigin / 1e7)}-${Math.floor(asked / 10)}-${below(4)}`;
  const verdict = await store.consume(rule, key, 1);
  if (verdict.allowed) note(key, verdict.atUs, 1);
}

const work = { "one-key": askOneKey, groups: askGroup, slots: holdSlot, churn }[order.kind];
const untilMs = performance.now() + order.durationMs;
await Promise.all(
  Array.from({ length: 24 }, async () => {
    while (performance.now() < untilMs) {
      asked++;
      await work().catch((error: unknown) => faults.add(String(error)));
    }
  }),
);
await store.close();
await pool.end();
const report: Report = { admitted, asked, faults: [...faults] };
process.stdout.write(JSON.stringify(report));
