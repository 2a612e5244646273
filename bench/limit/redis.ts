/** The part `redis`: decisions of one process through Redis, beside a bare script and rate-limiter-flexible. */
import { parseRate, ratePolicy } from "@sluice/core";
import { redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { RateLimiterRedis } from "rate-limiter-flexible";
import { startRedis } from "../../tools/servers/redis.ts";
import { findRedis } from "../../tools/servers/redis-binaries.ts";
import { Child } from "../harness/children.ts";
import type { Row, Table } from "../harness/report.ts";
import { median } from "../harness/statistics.ts";
import type { Context } from "../suites/suite.ts";
import type { MeasureCall, OpenCall } from "./redis-process.ts";

/** A way to ask, by its name in `redis-process.ts`. */
interface Contestant {
  readonly id: string;
  readonly label: string;
  /** What the first contestant should be at least times this one's figure. */
  readonly target?: number;
}

const ours: Contestant = { id: "sluice", label: "Sluice, token bucket" };
const bare: Contestant = { id: "bare", label: "a bare EVALSHA of one GCRA key" };
const flexible: Contestant = { id: "rate-limiter-flexible", label: "rate-limiter-flexible" };

/** A table: contestants in turns, so that what happens to the machine happens to all. */
interface Race {
  readonly title: string;
  readonly contestants: readonly Contestant[];
  readonly inFlight: number;
  readonly keys: number;
}

const races: readonly Race[] = [
  {
    title: "Redis: 500 in flight, 10 000 keys, one process, ioredis",
    contestants: [
      ours,
      { ...bare, target: 2 },
      { ...flexible, target: 3 },
      { id: "sluice log", label: "Sluice, sliding window" },
      { id: "sluice window", label: "Sluice, fixed window" },
    ],
    inFlight: 500,
    keys: 10_000,
  },
  {
    title: "Redis: 1 in flight, 10 000 keys, ioredis",
    contestants: [ours, { ...bare, target: 0.95 }, flexible],
    inFlight: 1,
    keys: 10_000,
  },
  {
    title: "Redis: 500 in flight, one hot key, ioredis",
    contestants: [ours, bare, flexible],
    inFlight: 500,
    keys: 1,
  },
  {
    title: "Redis: consumeAll of three limits on one subject, 500 in flight, 10 000 subjects, ioredis",
    contestants: [
      { id: "sluice all", label: "Sluice, three limits at once" },
      { ...ours, target: 0.5 },
    ],
    inFlight: 500,
    keys: 10_000,
  },
  {
    title: "Redis: the three clients, 500 in flight, 10 000 keys",
    contestants: [
      { ...ours, label: "Sluice, ioredis" },
      { id: "sluice iovalkey", label: "Sluice, iovalkey" },
      { id: "sluice node-redis", label: "Sluice, node-redis" },
    ],
    inFlight: 500,
    keys: 10_000,
  },
];

const columns = ["contestant", "checks/s", "ratio", "target"];
const legend = [
  "All limits are 1000 per 60 s; the server persists nothing.  checks/s: median over the turns; a group of three limits counts as one.",
  "ratio: of the first row to this one, median over the turns, in each of which all come one after the other.  target: at least.",
];

async function race(context: Context, url: string, race: Race): Promise<Table> {
  const { title, contestants, inFlight, keys } = race;
  const { quick, seconds, runs } = context.settings;
  const call: MeasureCall = { inFlight, keys, seconds: seconds ?? (quick ? 0.3 : 0.7) };
  context.say(title);
  const entries = contestants.map((contestant) => ({
    contestant,
    child: new Child("../limit/redis-process.ts"),
    figures: [] as number[],
  }));
  try {
    for (const { contestant, child } of entries) {
      const opening: OpenCall = { url, contestant: contestant.id };
      await child.call("open", opening);
    }
    for (let run = 0; run < (runs ?? (quick ? 1 : 15)); run++) {
      for (const { child, figures } of entries) figures.push(await child.call<number>("measure", call));
    }
  } finally {
    await Promise.all(entries.map(({ child }) => child.end()));
  }
  const first = entries[0]!.figures;
  const rows = entries.map(({ contestant, figures }): Row => {
    const ratio = median(figures.map((figure, turn) => first[turn]! / figure));
    const cells = { contestant: contestant.label, "checks/s": Math.round(median(figures)), ratio };
    return { cells: contestant.target === undefined ? cells : { ...cells, target: contestant.target } };
  });
  return { title, columns, rows, legend };
}

const users = Array.from({ length: 1_000 }, (_, i) => `user:${i}`);

/** Runs `what` with a client of its own, which is gone afterwards with its buffers. */
async function visit<T>(url: string, what: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url);
  try {
    return await what(client);
  } finally {
    await client.quit();
  }
}

function usedBytes(url: string): Promise<number> {
  return visit(url, async (client) => Number(/used_memory:(\d+)/.exec(await client.info("memory"))?.[1]));
}

const ruleOf = (algorithm: "token-bucket" | "sliding-window") =>
  Object.freeze({ name: "limit", policy: ratePolicy(parseRate("100/60s"), { algorithm }) });

/** By label: one admission of one key. */
const fills: Readonly<Record<string, (client: Redis) => (key: string) => Promise<unknown>>> = {
  "Sluice, token bucket 100/60s": (client) => {
    const [store, rule] = [redis(client), ruleOf("token-bucket")];
    return (key) => store.consume(rule, key, 1);
  },
  "Sluice, sliding window 100/60s, used to the full": (client) => {
    const [store, rule] = [redis(client), ruleOf("sliding-window")];
    return (key) => store.consume(rule, key, 1);
  },
  "rate-limiter-flexible, fixed window 100/60s": (client) => {
    const limiter = new RateLimiterRedis({ storeClient: client, points: 100, duration: 60 });
    return (key) => limiter.consume(key);
  },
};

/** What 1 000 clients take in Redis, each at its worst. */
async function memory(url: string): Promise<Table> {
  const rows: Row[] = [];
  for (const [contestant, fill] of Object.entries(fills)) {
    await visit(url, (client) => client.flushdb());
    const before = await usedBytes(url);
    await visit(url, async (client) => {
      const admit = fill(client);
      for (let i = 0; i < 100; i++) await Promise.all(users.map(admit));
    });
    rows.push({ cells: { contestant, bytes: (await usedBytes(url)) - before } });
  }
  return {
    title: "Redis: memory of 1 000 clients after 100 admissions each",
    columns: ["contestant", "bytes"],
    rows,
    legend: ["targets: token bucket 250 000, sliding window 1 000 000"],
  };
}

/** Runs the part, on a server of its own that persists nothing, as limiters are mostly run. */
export async function run(context: Context): Promise<Table[]> {
  const found = findRedis();
  if ("missing" in found) {
    const failure = `SKIPPED: ${found.missing}`;
    return [{ title: "Redis", columns, rows: [{ cells: { contestant: "all" }, failure }] }];
  }
  const server = await startRedis();
  try {
    const tables: Table[] = [];
    for (const each of races) tables.push(await race(context, server.url, each));
    tables.push(await memory(server.url));
    return tables;
  } finally {
    await server.stop();
  }
}
