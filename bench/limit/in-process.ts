/** A decision in process: nanoseconds of a call and bytes of a key, beside the peers, each in a fresh process. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Row, Table } from "../harness/report.ts";
import { median } from "../harness/statistics.ts";
import type { Context } from "../suites/suite.ts";

const program = fileURLToPath(new URL("in-process-contestant.ts", import.meta.url));

/** The contestants by the name that the program knows, and as the table calls them. */
const contestants: readonly (readonly [name: string, label: string])[] = [
  ["token-bucket", "Sluice token bucket, check(key)"],
  ["held", "Sluice token bucket, tryAcquire()"],
  ["sliding-window", "Sluice sliding window, check(key)"],
  ["fixed-window", "Sluice fixed window, check(key)"],
  ["hand-written", "hand-written GCRA"],
  ["limiter", "limiter"],
  ["rate-limiter-flexible", "rate-limiter-flexible memory"],
];

const scenes = [
  { label: "1 key, allowed", keys: 1, outcome: "allowed" },
  { label: "1 key, denied", keys: 1, outcome: "denied" },
  { label: "10^5 keys, allowed", keys: 100_000, outcome: "allowed" },
  { label: "10^5 keys, denied", keys: 100_000, outcome: "denied" },
] as const;

/** The part `in-process`. */
export async function run(context: Context): Promise<Table[]> {
  const tables: Table[] = [];
  for (const scene of scenes) tables.push(await timeTable(context, scene));
  tables.push(await bytesTable(context));
  return tables;
}

async function timeTable(context: Context, scene: (typeof scenes)[number]): Promise<Table> {
  context.say(`in process: ${scene.label}`);
  // To find the held one of many takes a table of its own, which is not what is measured here.
  const taking = contestants.filter(([name]) => name !== "held" || scene.keys === 1);
  const figures = new Map<string, number[]>(taking.map(([name]) => [name, []]));
  const failures = new Map<string, string>();
  const runs = context.settings.quick ? 1 : (context.settings.runs ?? 5);
  // They take turns, so that a slow moment of the machine hits all alike.
  for (let i = 0; i < runs; i++) {
    for (const [name] of taking) {
      try {
        figures.get(name)!.push(await figure([name, "time", `${scene.keys}`, scene.outcome]));
      } catch (error) {
        failures.set(name, `FAILED: ${String(error).slice(0, 200)}`);
      }
    }
  }
  const ours = median(figures.get("token-bucket")!);
  const rows = taking.map(([name, label]): Row => {
    const failure = failures.get(name);
    if (failure !== undefined) return { cells: { contestant: label }, failure };
    const ns = median(figures.get(name)!);
    return { cells: { contestant: label, "ns a call": ns, ratio: ns / ours } };
  });
  return {
    title: `A decision in process: ${scene.label} (median of ${runs})`,
    columns: ["contestant", "ns a call", "ratio"],
    rows,
    legend: [
      "CPU time of the calling thread. ratio: the contestant's / that of our token bucket. Targets: rate-limiter-flexible at least 4, limiter at least",
      "1.7, hand-written GCRA at least 0.74 (ours takes at most 1.35 times as long).",
    ],
  };
}

async function bytesTable(context: Context): Promise<Table> {
  const keys = context.settings.quick ? 100_000 : 1_000_000;
  context.say(`in process: bytes of a key, ${keys} keys`);
  const rows: Row[] = [];
  for (const [name, label] of contestants) {
    if (name === "held") continue;
    try {
      const each = await figure([name, "bytes", `${keys}`]);
      rows.push({ cells: { contestant: label, "bytes a key": Math.round(each) } });
    } catch (error) {
      rows.push({ cells: { contestant: label }, failure: `FAILED: ${String(error).slice(0, 200)}` });
    }
  }
  return {
    title: `Memory of a key that was used once, with its string, of ${keys}`,
    columns: ["contestant", "bytes a key"],
    rows,
    legend: ["Target: at most 100 for a token bucket."],
  };
}

async function figure(call: readonly string[]): Promise<number> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--expose-gc", "--conditions=@sluice/source", program, ...call],
    { timeout: 120_000 },
  );
  return Number(stdout);
}
