/** How fast tasks can be made durable: in bulk, and one at a time with several calls in flight. */
import type { Done, ProduceCall } from "../harness/engine-process.ts";
import type { Row, Table } from "../harness/report.ts";
import { median } from "../harness/statistics.ts";
import { type Context, freshStore, measureRow, type Subject, type Suite, withEngine } from "./suite.ts";

const contestants: readonly Subject[] = [
  { label: "Sluice", peer: "sluice", options: {} },
  { label: "graphile-worker", peer: "graphile-worker", options: {} },
  { label: "pg-boss", peer: "pg-boss", options: {} },
  { label: "DBOS", peer: "dbos", options: {} },
  { label: "BullMQ on Redis", peer: "bullmq", options: {} },
];

const bare: Subject = { label: "bare INSERT … SELECT unnest", peer: "bare-insert", options: {} };
const batches = [1_000, 10_000];
const flights = [1, 16, 64];
/** Bounds of one run; the warm-up before it is a tenth. */
const fullSeconds = 3;
const quickSeconds = 0.5;
const bulkRows = 500_000;
const fullRuns = 3;

/** Rows per second of one cell, median of the runs, one process and one store. */
async function speed(
  context: Context,
  subject: Subject,
  shape: Pick<ProduceCall, "batch" | "inFlight">,
): Promise<number> {
  const { quick } = context.settings;
  const seconds = context.settings.seconds ?? (quick ? quickSeconds : fullSeconds);
  const runs = context.settings.runs ?? (quick ? 1 : fullRuns);
  const count = shape.batch > 1 ? bulkRows : 100_000;
  const call = await freshStore(context, subject);
  return await withEngine(call, async (child) => {
    await child.call("produce", { ...shape, count, seconds: seconds / 10 }, 60_000);
    const speeds: number[] = [];
    for (let run = 0; run < runs; run++) {
      const done = await child.call<Done>("produce", { ...shape, count, seconds }, 60_000);
      speeds.push(done.count / done.seconds);
    }
    return Math.round(median(speeds));
  });
}

async function tableOf(
  context: Context,
  subjects: readonly Subject[],
  shapes: ReadonlyMap<string, Pick<ProduceCall, "batch" | "inFlight">>,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const subject of subjects) {
    rows.push(
      await measureRow(context, subject, async () => {
        const cells: Record<string, number> = {};
        for (const [column, shape] of shapes) cells[column] = await speed(context, subject, shape);
        return { cells };
      }),
    );
  }
  return rows;
}

/** Adds a column of how a row's figure in `column` compares with that of the row `label`. */
function addRatio(rows: readonly Row[], column: string, label: string, title: string): Row[] {
  const base = rows.find((row) => row.cells["engine"] === label)?.cells[column] as number | undefined;
  return rows.map((row) => {
    if (row.failure) return row;
    return { ...row, cells: { ...row.cells, [title]: (row.cells[column] as number) / (base ?? Number.NaN) } };
  });
}

/** The benchmark `enqueue`. */
export const enqueue: Suite = {
  description: "tasks made durable per second: in bulk and one at a time",
  async run(context): Promise<Table[]> {
    const chosen = contestants.filter(({ peer }) => context.settings.only.includes(peer));
    context.say("bulk");
    const bulkShapes = new Map(batches.map((batch) => [`${batch} a call`, { batch, inFlight: 1 }]));
    let bulk = await tableOf(context, [...chosen, bare], bulkShapes);
    for (const column of bulkShapes.keys()) bulk = addRatio(bulk, column, bare.label, `${column}, of bare`);
    context.say("one at a time");
    const singleShapes = new Map(
      flights.map((inFlight) => [`${inFlight} in flight`, { batch: 1, inFlight }]),
    );
    let single = await tableOf(context, chosen, singleShapes);
    const last = `${flights.at(-1)} in flight`;
    single = addRatio(single, last, "graphile-worker", "of graphile-worker");
    single = addRatio(single, last, "pg-boss", "of pg-boss");
    return [
      {
        title: "Bulk: rows per second, one call after another",
        columns: [
          "engine",
          ...bulkShapes.keys(),
          ...[...bulkShapes.keys()].map((column) => `${column}, of bare`),
        ],
        rows: bulk,
        legend: [
          "bare: the same rows from the same client by one INSERT … SELECT unnest a call into a copy of Sluice's table of",
          "tasks with its indexes.  DBOS has no bulk enqueue: 64 in flight.",
        ],
      },
      {
        title: "One at a time: tasks per second",
        columns: ["engine", ...singleShapes.keys(), "of graphile-worker", "of pg-boss"],
        rows: single,
        legend: [`ratios at ${last}`],
      },
    ];
  },
};
