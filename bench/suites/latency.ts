/** How soon an idle queue starts a new task: from the call of enqueue to the start of the handler. */
import { EventEmitter, once } from "node:events";
import type { Child, Notice } from "../harness/children.ts";
import { monotonicUs, pause } from "../harness/monotonic-clock.ts";
import type { Row, Table } from "../harness/report.ts";
import { percentile } from "../harness/statistics.ts";
import { type Context, freshStore, measureRow, type Subject, type Suite, withEngine } from "./suite.ts";

const contestants: readonly Subject[] = [
  { label: "Sluice", peer: "sluice", options: {} },
  { label: "graphile-worker", peer: "graphile-worker", options: { variant: "plain" } },
  { label: "pg-boss, notify", peer: "pg-boss", options: { variant: "single" } },
  { label: "DBOS, default", peer: "dbos", options: {} },
  { label: "DBOS, poll 10 ms", peer: "dbos", options: { variant: "10" } },
  { label: "BullMQ on Redis", peer: "bullmq", options: { concurrency: 10 } },
];

const fullSamples = 200;
const quickSamples = 30;
/** The first samples warm both processes and are not counted. */
const warmUp = 10;
/** Time between a start and the next enqueue: even from the lower to the upper bound, in milliseconds. */
const gapMs = [20, 80] as const;
/** A slow engine gets fewer samples rather than more time. */
const rowSeconds = 60;
const quickRowSeconds = 8;
const sampleTimeoutMs = 10_000;

async function sample(producer: Child, worker: Child, n: number): Promise<number> {
  const started = new EventEmitter();
  worker.onNotice = (notice) => started.emit(String(notice.value), notice);
  const start = once(started, String(n), { signal: AbortSignal.timeout(sampleTimeoutMs) });
  const [calledUs, [notice]] = await Promise.all([
    producer.call<number>("enqueueOne", { n, lane: 0 }),
    start as Promise<[Notice]>,
  ]);
  return (notice.atUs - calledUs) / 1000;
}

async function collect(producer: Child, worker: Child, quick: boolean): Promise<number[]> {
  const samples = quick ? quickSamples : fullSamples;
  await worker.call("workAndNotify");
  await pause(1_000);
  const latencies: number[] = [];
  const endUs = monotonicUs() + (quick ? quickRowSeconds : rowSeconds) * 1e6;
  for (let n = 0; n < samples + warmUp && monotonicUs() < endUs; n++) {
    const ms = await sample(producer, worker, n);
    if (n >= warmUp) latencies.push(ms);
    await pause(gapMs[0] + Math.random() * (gapMs[1] - gapMs[0]));
  }
  return latencies;
}

async function measure(context: Context, subject: Subject, apart: boolean): Promise<Omit<Row, "failure">> {
  const { quick } = context.settings;
  const call = await freshStore(context, subject);
  const latencies = await withEngine(call, (worker) => {
    if (!apart) return collect(worker, worker, quick);
    return withEngine(call, (producer) => collect(producer, worker, quick));
  });
  return {
    cells: {
      samples: latencies.length,
      "p50 ms": percentile(latencies, 0.5),
      "p95 ms": percentile(latencies, 0.95),
      "p99 ms": percentile(latencies, 0.99),
      "max ms": Math.max(...latencies),
    },
  };
}

/** The benchmark `latency`. */
export const latency: Suite = {
  description: "an idle queue: from the call of enqueue to the start of the handler",
  async run(context): Promise<Table[]> {
    const columns = ["engine", "samples", "p50 ms", "p95 ms", "p99 ms", "max ms"];
    const tables: Table[] = [];
    for (const apart of [true, false]) {
      const title = apart ? "Producer and worker in two processes" : "Producer and worker in one process";
      context.say(title);
      const rows: Row[] = [];
      for (const subject of contestants.filter(({ peer }) => context.settings.only.includes(peer))) {
        rows.push(await measureRow(context, subject, () => measure(context, subject, apart)));
      }
      tables.push({ title, columns, rows });
    }
    return tables;
  },
};
