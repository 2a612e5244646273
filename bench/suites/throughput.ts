/** How fast one worker process drains a backlog of no-op tasks, every one of them durably done. */
import { drainByPgbench, drainFromNode } from "../harness/bare-queue.ts";
import type { Done } from "../harness/engine-process.ts";
import type { Row, Table } from "../harness/report.ts";
import { median } from "../harness/statistics.ts";
import { type Context, freshStore, measureRow, type Subject, type Suite, withEngine } from "./suite.ts";

interface Contestant extends Subject {
  /** Tasks of a full run; a slow engine gets fewer, its speed does not depend on them. */
  readonly tasks: number;
  readonly lanes?: number;
}

const baseline = "graphile-worker, batched";
const floor = "bare SQL from Node.js, 100 a time";
const ours = "Sluice";

const contestants: readonly Contestant[] = [
  { label: ours, peer: "sluice", options: {}, tasks: 200_000 },
  { label: baseline, peer: "graphile-worker", options: { variant: "batched" }, tasks: 200_000 },
  {
    label: "graphile-worker, one at a time",
    peer: "graphile-worker",
    options: { variant: "plain" },
    tasks: 20_000,
  },
  { label: "pg-boss, batch 1000", peer: "pg-boss", options: { variant: "batch-1000" }, tasks: 20_000 },
  { label: "pg-boss, 4 x batch 100", peer: "pg-boss", options: { variant: "batch-100x4" }, tasks: 20_000 },
  { label: "DBOS, poll 10 ms", peer: "dbos", options: { variant: "10" }, tasks: 10_000 },
  { label: "BullMQ on Redis, 200 at once", peer: "bullmq", options: {}, tasks: 100_000 },
];

const limited: Contestant = {
  label: "Sluice, limit and 100 partitions",
  peer: "sluice",
  options: { rate: { limit: 1_000_000, periodMs: 1000 }, lanes: true, laneConcurrency: 1 },
  tasks: 200_000,
  lanes: 100,
};

/** Long enough for the slowest engine, short enough to end a hung one. */
const drainTimeoutMs = 180_000;
const quickShare = 0.1;
const fullRuns = 3;

const columns = ["engine", "tasks", "runs", "tasks/s", "lowest", "highest", "of graphile-worker", "of floor"];

async function drainOnce(context: Context, contestant: Contestant, count: number): Promise<Done> {
  const call = await freshStore(context, contestant);
  const batch = contestant.peer === "dbos" ? 1000 : 5000;
  const fill = { count, lanes: contestant.lanes ?? 1, batch };
  await withEngine(call, (child) => child.call("fill", fill, drainTimeoutMs));
  if (contestant.peer !== "bullmq") await context.servers.settle(call.options.url);
  return await withEngine(call, (child) => child.call<Done>("drain", { count }, drainTimeoutMs));
}

/** Repeats a drain and makes a row of it. */
async function repeated(
  context: Context,
  count: number,
  once: () => Promise<Done>,
): Promise<Omit<Row, "failure">> {
  const runs = context.settings.runs ?? (context.settings.quick ? 1 : fullRuns);
  const speeds: number[] = [];
  for (let run = 0; run < runs; run++) {
    const done = await once();
    speeds.push(done.count / done.seconds);
  }
  const cells = {
    tasks: count,
    runs,
    "tasks/s": Math.round(median(speeds)),
    lowest: Math.round(Math.min(...speeds)),
    highest: Math.round(Math.max(...speeds)),
  };
  return { cells };
}

function speedOf(rows: readonly Row[], label: string): number {
  return (
    (rows.find((row) => row.cells["engine"] === label)?.cells["tasks/s"] as number | undefined) ?? Number.NaN
  );
}

function withRatios(rows: readonly Row[]): Row[] {
  return rows.map((row) => {
    const speed = row.cells["tasks/s"] as number;
    const ratios = {
      "of graphile-worker": speed / speedOf(rows, baseline),
      "of floor": speed / speedOf(rows, floor),
    };
    return row.failure ? row : { ...row, cells: { ...row.cells, ...ratios } };
  });
}

async function floorRows(context: Context, count: number): Promise<Row[]> {
  const fromNode = await measureRow(context, { label: floor }, () =>
    repeated(context, count, async () => drainFromNode(await context.servers.freshDatabase(), count)),
  );
  const pgbench = await measureRow(context, { label: "bare SQL by pgbench, 100 a time" }, () =>
    repeated(context, count, async () => drainByPgbench(await context.servers.freshDatabase(), count)),
  );
  const missing = pgbench.failure?.includes("ENOENT")
    ? { ...pgbench, failure: "SKIPPED: no pgbench on PATH" }
    : pgbench;
  return [fromNode, missing];
}

/** The benchmark `throughput`. */
export const throughput: Suite = {
  description: "no-op tasks durably done per second by one worker process",
  async run(context): Promise<Table[]> {
    const { quick, only } = context.settings;
    const size = (tasks: number): number => Math.round(tasks * (quick ? quickShare : 1));
    const measure = (contestant: Contestant): Promise<Row> =>
      measureRow(context, contestant, () =>
        repeated(context, size(contestant.tasks), () =>
          drainOnce(context, contestant, size(contestant.tasks)),
        ),
      );
    const rows: Row[] = [];
    for (const contestant of contestants)
      if (only.includes(contestant.peer)) rows.push(await measure(contestant));
    rows.push(...(await floorRows(context, size(200_000))));
    const tables: Table[] = [{ title: "Without limits", columns, rows: withRatios(rows) }];
    if (!only.includes("sluice")) return tables;
    const bound = await measure(limited);
    const ratio = (bound.cells["tasks/s"] as number) / speedOf(rows, ours);
    const limitedRow = bound.failure ? bound : { ...bound, cells: { ...bound.cells, "of unlimited": ratio } };
    tables.push({
      title: "With a limit too high to bind (1 000 000/s) and 100 partitions at concurrency 1",
      columns: [...columns.slice(0, 6), "of unlimited"],
      rows: [limitedRow],
    });
    return tables;
  },
};
