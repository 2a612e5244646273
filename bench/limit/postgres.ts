/** Decisions a second on PostgreSQL, logged and with synchronous commit, beside rate-limiter-flexible. */
import { Child } from "../harness/children.ts";
import type { Row, Table } from "../harness/report.ts";
import { median } from "../harness/statistics.ts";
import type { Context } from "../suites/suite.ts";
import type { Contestant, LoadCall, LoadResult, OpenCall } from "./postgres-process.ts";

/** One table: who takes part in what load. */
interface Heat {
  readonly title: string;
  readonly load: Omit<LoadCall, "seconds">;
  readonly contestants: readonly Contestant[];
  readonly legend: readonly string[];
}

const peer: Contestant = "rate-limiter-flexible";

const heats: readonly Heat[] = [
  {
    title: "PostgreSQL: 500 decisions in flight, distinct keys",
    load: { inFlight: 500, hot: false },
    contestants: [peer, "token-bucket", "sliding-window", "fixed-window", "all of three"],
    legend: [
      "ratio: to rate-limiter-flexible; the target is at least 6",
      "all of three: one decision over a user's, a tenant's and everybody's limit, counted once",
    ],
  },
  {
    title: "PostgreSQL: one decision in flight",
    load: { inFlight: 1, hot: false },
    contestants: [peer, "token-bucket"],
    legend: ["one statement and its commit each, whoever asks"],
  },
  {
    title: "PostgreSQL: 500 decisions in flight, one key",
    load: { inFlight: 500, hot: true },
    contestants: [peer, "token-bucket"],
    legend: ["nothing is denied"],
  },
];

async function runHeat(
  context: Context,
  heat: Heat,
  children: ReadonlyMap<Contestant, Child>,
): Promise<Table> {
  const { quick, runs = 5, seconds = quick ? 0.3 : 3 } = context.settings;
  const results = new Map<Contestant, LoadResult[]>(heat.contestants.map((name) => [name, []]));
  for (let run = 0; run < (quick ? 2 : runs); run++) {
    for (const name of heat.contestants) {
      const child = children.get(name);
      if (child === undefined) continue;
      results.get(name)!.push(await child.call<LoadResult>("load", { ...heat.load, seconds }, 120_000));
    }
    context.say(`${heat.title}: run ${run + 1}`);
  }
  const middle = (name: Contestant, figure: keyof LoadResult): number =>
    median(results.get(name)!.map((result) => result[figure]));
  const rows = heat.contestants.map((name): Row => {
    if (results.get(name)!.length === 0)
      return { cells: { contestant: name }, failure: "FAILED: did not open" };
    const ratio = middle(name, "perSecond") / middle(peer, "perSecond");
    const times = { "p50 ms": middle(name, "p50Ms"), "p99 ms": middle(name, "p99Ms") };
    return { cells: { contestant: name, "per second": middle(name, "perSecond"), ratio, ...times } };
  });
  return {
    title: heat.title,
    columns: ["contestant", "per second", "ratio", "p50 ms", "p99 ms"],
    rows,
    legend: heat.legend,
  };
}

/** The part `postgres` of the benchmark `limit`. */
export async function run(context: Context): Promise<Table[]> {
  const url = await context.servers.freshDatabase();
  const children = new Map<Contestant, Child>();
  try {
    for (const contestant of heats[0]!.contestants) {
      context.say(contestant);
      const child = new Child("../limit/postgres-process.ts");
      const call: OpenCall = { url, contestant, keys: context.settings.quick ? 1_000 : 100_000 };
      await child.call("open", call, 120_000);
      children.set(contestant, child);
    }
    await context.servers.settle(url);
    const tables: Table[] = [];
    for (const heat of heats) tables.push(await runHeat(context, heat, children));
    return tables;
  } finally {
    for (const child of children.values()) await child.end();
  }
}
