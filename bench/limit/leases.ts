/** Leases: one hot key that three processes take from, on Redis without leases and with them, and whether the bound holds. */
import { Child } from "../harness/children.ts";
import type { Row, Table } from "../harness/report.ts";
import { median } from "../harness/statistics.ts";
import type { Context } from "../suites/suite.ts";
import type { LoadCall, LoadResult, OpenCall } from "./lease-process.ts";

const processes = 3;

/** Above what three processes can ask for, so that nothing is denied. */
const wide = "100000000/s";
/** Far below it, so that most is denied and the bound is what decides. */
const tight = { rate: "200000/s", perSecond: 200_000, burst: 200_000 };

interface Heat {
  readonly label: string;
  readonly isLeased: boolean;
  readonly inFlight: number;
  readonly keys?: number;
}

const heats: readonly Heat[] = [
  { label: "Redis, 500 in flight in each, 10^5 keys", isLeased: false, inFlight: 500, keys: 100_000 },
  { label: "Redis, one key, 1 in flight in each", isLeased: false, inFlight: 1 },
  { label: "Redis, one key, 500 in flight in each", isLeased: false, inFlight: 500 },
  { label: "leased, one key, 1 in flight in each", isLeased: true, inFlight: 1 },
  { label: "leased, one key, 500 in flight in each", isLeased: true, inFlight: 500 },
];

/** Three processes that take from one limit for as long as `work` lasts. */
async function withFleet<T>(
  call: OpenCall,
  work: (load: (call: LoadCall) => Promise<readonly LoadResult[]>) => Promise<T>,
): Promise<T> {
  const children = Array.from({ length: processes }, () => new Child("../limit/lease-process.ts"));
  try {
    await Promise.all(children.map((child) => child.call("open", call)));
    return await work((load) =>
      Promise.all(children.map((child) => child.call<LoadResult>("load", load, 120_000))),
    );
  } finally {
    await Promise.all(children.map((child) => child.end()));
  }
}

function total(results: readonly LoadResult[], figure: "perSecond" | "admitted" | "decisions"): number {
  return results.reduce((sum, result) => sum + result[figure], 0);
}

async function throughput(context: Context, url: string): Promise<Table> {
  const { quick, runs = 5, seconds = quick ? 0.3 : 2 } = context.settings;
  const figures = new Map<Heat, number[]>(heats.map((heat) => [heat, []]));
  for (let run = 0; run < (quick ? 1 : runs); run++) {
    for (const heat of heats) {
      context.say(`leases: ${heat.label}, run ${run + 1}`);
      const name = `wide-${heat.isLeased}-${heat.inFlight}-${heat.keys}-${run}`;
      const results = await withFleet(
        { url, name, rate: wide, ladder: heat.isLeased ? "leased" : "Redis" },
        (load) => load({ inFlight: heat.inFlight, seconds, keys: heat.keys ?? 1 }),
      );
      figures.get(heat)!.push(total(results, "perSecond"));
    }
  }
  const middle = (heat: Heat): number => median(figures.get(heat)!);
  const rows = heats.map((heat): Row => {
    const perSecond = middle(heat);
    const cells = { contestant: heat.label, "per second": perSecond };
    return { cells: { ...cells, ratio: perSecond / middle(heats[0]!) } };
  });
  return {
    title: "Leases: one hot key, three processes, nothing denied",
    columns: ["contestant", "per second", "ratio"],
    rows,
    legend: [
      "decisions of all three together through limit().tryAcquire()",
      "ratio: to the first row, what Redis does without leases and without merging; the target is at least 20",
      "one key, 500 in flight: the Redis store asks once for all that ask for one key within a turn of the event loop",
    ],
  };
}

/** By how much the fullest stretch of milliseconds exceeds what any window may hold; 0 or below when none does. */
function tooMany(results: readonly LoadResult[]): number {
  const slowestUs = Math.max(...results.map((result) => result.slowestUs));
  const perMs = new Map<number, number>();
  for (const { admittedAt } of results)
    for (const [ms, count] of admittedAt) perMs.set(ms, (perMs.get(ms) ?? 0) + count);
  // The running minimum of (sum before − rate·time): the fullest stretch that ends here began where that was least.
  let [sum, least, worst] = [0, Infinity, -Infinity];
  for (const [ms, count] of [...perMs].sort(([a], [b]) => a - b)) {
    least = Math.min(least, sum - (tight.perSecond / 1000) * ms);
    sum += count;
    worst = Math.max(worst, sum - (tight.perSecond / 1000) * (ms + 1) - least);
  }
  // What was noted in a stretch may have been decided as much earlier as an answer took.
  return worst - tight.burst - (tight.perSecond / 1_000_000) * slowestUs;
}

async function bound(context: Context, url: string): Promise<Table> {
  const { quick, seconds = quick ? 0.5 : 5 } = context.settings;
  const rows: Row[] = [];
  for (const ladder of ["Redis", "leased", "leased, denials cached"] as const) {
    context.say(`leases: the bound, ${ladder}`);
    const results = await withFleet({ url, name: `tight ${ladder}`, rate: tight.rate, ladder }, (load) =>
      load({ inFlight: 500, seconds, keys: 1 }),
    );
    const fromUs = Math.min(...results.map((result) => result.fromUs));
    const toUs = Math.max(...results.map((result) => result.toUs));
    const allowance = Math.floor(tight.burst + (tight.perSecond * (toUs - fromUs)) / 1_000_000);
    const admitted = total(results, "admitted");
    const cells = {
      contestant: ladder,
      "asked per second": total(results, "perSecond"),
      admitted,
      allowance,
      "used %": (100 * admitted) / allowance,
      "too many in all": Math.max(0, admitted - allowance),
      "too many in a window": Math.max(0, Math.ceil(tooMany(results))),
    };
    rows.push({ cells });
  }
  return {
    title: `Leases: three processes ask a limit of ${tight.rate} (token bucket) for more than it has`,
    columns: [
      "contestant",
      "asked per second",
      "admitted",
      "allowance",
      "used %",
      "too many in all",
      "too many in a window",
    ],
    rows,
    legend: [
      "allowance: burst + rate x time, from before the first question to after the last answer",
      "too many in a window: over all stretches of whole milliseconds, less what the slowest answer allows for",
    ],
  };
}

/** The part `leases` of the benchmark `limit`. */
export async function run(context: Context): Promise<Table[]> {
  const url = context.servers.redisUrl;
  if (url === undefined) {
    const failure = "SKIPPED: no redis-server or valkey-server on PATH or in REDIS_SERVER_BIN";
    context.say(`leases: ${failure}`);
    return [
      { title: "Leases", columns: ["contestant"], rows: [{ cells: { contestant: "leased" }, failure }] },
    ];
  }
  return [await throughput(context, url), await bound(context, url)];
}
