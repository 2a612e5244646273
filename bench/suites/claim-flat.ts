/** Whether a claim costs the same however many tasks wait and however many lanes there are. */
import type { ClaimCall } from "../harness/claims-process.ts";
import type { Row, Table } from "../harness/report.ts";
import { median, percentile } from "../harness/statistics.ts";
import type { EngineOptions } from "../peers/peer.ts";
import { queueName, queueSettings, taskName } from "../peers/sluice-queue.ts";
import { type Context, freshStore, measureRow, type Suite, withChild, withEngine } from "./suite.ts";

interface Size {
  readonly tasks: number;
  readonly lanes: number;
}

const small: Size = { tasks: 1_000, lanes: 10 };
const large: Size = { tasks: 1_000_000, lanes: 100_000 };
const quickLarge: Size = { tasks: 100_000, lanes: 10_000 };
const tasks = 400;
/** The first claims prepare statements and fill caches. */
const warmUp = 50;
const fillTimeoutMs = 300_000;

const kinds: readonly (readonly [string, Omit<EngineOptions, "url">])[] = [
  ["no limit", { lanes: true }],
  ["one at a time per partition", { lanes: true, laneConcurrency: 1 }],
  [
    "the same, and a queue limit that never binds",
    { lanes: true, laneConcurrency: 1, rate: { limit: 1_000_000, periodMs: 1000 } },
  ],
];

async function claimTimes(
  context: Context,
  options: Omit<EngineOptions, "url">,
  size: Size,
): Promise<number[]> {
  const call = await freshStore(context, { label: "Sluice", peer: "sluice", options });
  const fill = { count: size.tasks, lanes: size.lanes, batch: Math.min(10_000, size.tasks) };
  await withEngine(call, (child) => child.call("fill", fill, fillTimeoutMs));
  await context.servers.settle(call.options.url);
  const claim: ClaimCall = {
    url: call.options.url,
    queue: queueName,
    settings: queueSettings(call.options),
    task: taskName,
    count: tasks + warmUp,
  };
  const times = await withChild("claims-process.ts", (child) => child.call<number[]>("claim", claim, 60_000));
  if (times.length < 2 * warmUp) throw new Error(`only ${times.length} claims`);
  return times.slice(warmUp);
}

function sizeText(size: Size): string {
  return `${size.tasks} waiting in ${size.lanes} lanes`;
}

/** The benchmark `claim-flat`. */
export const claimFlat: Suite = {
  description: "time of one claim with few and with very many waiting tasks and lanes",
  async run(context): Promise<Table[]> {
    const many = context.settings.quick ? quickLarge : large;
    const rows: Row[] = [];
    for (const [label, options] of kinds) {
      const row = await measureRow(context, { label }, async () => {
        const few = await claimTimes(context, options, small);
        const lots = await claimTimes(context, options, many);
        return {
          cells: {
            claims: few.length,
            "few p50 ms": median(few),
            "few p95 ms": percentile(few, 0.95),
            "many p50 ms": median(lots),
            "many p95 ms": percentile(lots, 0.95),
            "p50 ratio": median(lots) / median(few),
          },
        };
      });
      rows.push(row);
    }
    return [
      {
        title: `One claim: ${sizeText(small)} (few) and ${sizeText(many)} (many)`,
        columns: ["engine", "claims", "few p50 ms", "few p95 ms", "many p50 ms", "many p95 ms", "p50 ratio"],
        rows,
        legend: ["one exchange with the store each: it ends one attempt or none and claims one or two tasks"],
      },
    ];
  },
};
