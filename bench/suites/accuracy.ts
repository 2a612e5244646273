/**
 * How exactly a limit is kept by several worker processes: a saturated backlog, every handler a call to the meter,
 * every window judged at the meter and, for Sluice, in the store's own ledger.
 */
import { Client } from "pg";
import { Child } from "../harness/children.ts";
import type { FillCall, OpenCall } from "../harness/engine-process.ts";
import type { Reading } from "../harness/meter-process.ts";
import { monotonicUs, pause } from "../harness/monotonic-clock.ts";
import type { Row, Table } from "../harness/report.ts";
import { type Budget, judge, parseBudget, type Stall, type Verdict } from "../harness/windows.ts";
import type { PeerName } from "../peers/peers.ts";
import { type Context, freshStore, measureRow, type Suite, withEngine } from "./suite.ts";

/** A limit and how the tasks are spread. */
interface Setting {
  readonly rate: string;
  /** Number of lanes; undefined: tasks name no partition. */
  readonly lanes?: number;
  readonly laneRate?: string;
}

interface Contestant {
  readonly label: string;
  readonly peer: PeerName;
  readonly variant?: string;
  readonly concurrency?: number;
  /** Worker processes, if not as many as the run has. */
  readonly workers?: number;
}

const rates = ["2/1s", "3/10s", "50/1s", "5/250ms", "500/1s"];
/** The queue binds in the first and third, the partitions in the second. */
const combined: readonly Setting[] = [
  { rate: "50/1s", lanes: 3, laneRate: "20/1s" },
  { rate: "50/1s", lanes: 3, laneRate: "10/1s" },
  { rate: "50/1s", lanes: 100, laneRate: "1/1s" },
];

/**
 * A stall of the meter longer than this may bring calls too close together that were apart: the guard that Sluice
 * adds to a period when none is set (1.2 % of it, 7.5 to 50 ms, at most 4 %), the same for all engines.
 */
function guardUs(budget: Budget): number {
  const periodUs = budget.periodMs * 1000;
  return Math.min(Math.max(0.012 * periodUs, 7_500), 50_000, 0.04 * periodUs);
}
const fullSeconds = 60;
const quickSeconds = 5;
/** Longest wait for the first start, in milliseconds. */
const firstStartMs = 30_000;

const columns = [
  "limit",
  "engine",
  "starts",
  "over",
  "near stall",
  "stalls",
  "worst/limit",
  "use %",
  "jitter p50 ms",
  "p99 ms",
  "ledger over",
];

const legend = [
  "over: windows (t - P, t] with more starts than the limit, at the meter; for a partition limit, of all partitions.",
  "near stall: such windows that touch a stall of the meter longer than the guard: it may be the meter's doing.  stalls: how many.",
  "worst/limit: starts in the fullest window / limit.  use: share of the budget between first and last start.",
  "jitter: how far gaps between starts are from even spacing P/N.  ledger over: windows over in Sluice's own record.",
];

function contestants(setting: Setting): Contestant[] {
  const ours: Contestant = { label: "Sluice", peer: "sluice" };
  const dbosBoth: Contestant[] = [
    { label: "DBOS, default", peer: "dbos" },
    { label: "DBOS, poll 100 ms", peer: "dbos", variant: "100" },
  ];
  if (setting.laneRate !== undefined) return [ours, ...dbosBoth];
  if (setting.lanes !== undefined) return [ours];
  const timer: Contestant = { label: "floor: one timer, no guard", peer: "bare-timer", workers: 1 };
  return [{ label: "BullMQ", peer: "bullmq", concurrency: 50 }, ...dbosBoth, timer];
}

function settingText(setting: Setting): string {
  if (setting.lanes === undefined) return `${setting.rate}, no partitions`;
  if (setting.laneRate === undefined) return `${setting.rate}, ${setting.lanes} partitions`;
  return `${setting.rate} and ${setting.laneRate} in each of ${setting.lanes}`;
}

/** Starts per second that the limits together allow. */
function allowed(setting: Setting): Budget {
  const queue = parseBudget(setting.rate);
  if (setting.laneRate === undefined || setting.lanes === undefined) return queue;
  const lane = parseBudget(setting.laneRate);
  const together = { limit: lane.limit * setting.lanes, periodMs: lane.periodMs };
  return together.limit / together.periodMs < queue.limit / queue.periodMs ? together : queue;
}

/** Verdicts over each lane for itself: windows and starts added up, the worst of the worst. */
function judgeLanes(lanes: Iterable<readonly number[]>, budget: Budget, stalls: readonly Stall[]): Verdict[] {
  return Array.from(lanes, (startsUs) => judge(startsUs, budget, stalls));
}

function byLane(startsUs: readonly number[], lanes: readonly number[]): Iterable<readonly number[]> {
  const groups = new Map<number, number[]>();
  startsUs.forEach((startUs, i) => {
    const lane = lanes[i] as number;
    const group = groups.get(lane);
    if (group === undefined) groups.set(lane, [startUs]);
    else group.push(startUs);
  });
  return groups.values();
}

/** Windows over the limits in the ledger of a Sluice store. */
async function ledgerOver(url: string, setting: Setting): Promise<number> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ start: number; lane: number }>(
      `SELECT start::float8 AS start, lane::float8 AS lane
       FROM sluice.ledger, unnest(starts, lanes) AS granted (start, lane)`,
    );
    const startsUs = rows.map((row) => row.start);
    const queueOver = judge(startsUs, parseBudget(setting.rate)).over;
    if (setting.laneRate === undefined) return queueOver;
    const lanes = byLane(
      startsUs,
      rows.map((row) => row.lane),
    );
    const verdicts = judgeLanes(lanes, parseBudget(setting.laneRate), []);
    return queueOver + verdicts.reduce((sum, verdict) => sum + verdict.over, 0);
  } finally {
    await client.end();
  }
}

async function waitForFirstStart(meter: Child): Promise<void> {
  for (const endUs = monotonicUs() + firstStartMs * 1000; monotonicUs() < endUs; await pause(50)) {
    if ((await meter.call<number>("count")) > 0) return;
  }
  throw new Error(`no task started within ${firstStartMs / 1000} s`);
}

/** Runs the worker processes against the meter for `seconds` from the first start. */
async function meterRun(call: OpenCall, workers: number, seconds: number): Promise<Reading> {
  const meter = new Child("meter-process.ts");
  const crew = Array.from({ length: workers }, () => new Child("engine-process.ts"));
  try {
    const { port } = await meter.call<{ port: number }>("open");
    await Promise.all(crew.map((worker) => worker.call("open", call)));
    const working = crew.map((worker) => worker.call("workForMeter", { port }));
    await Promise.all(working);
    await waitForFirstStart(meter);
    await pause(seconds * 1000);
    return await meter.call<Reading>("read");
  } finally {
    await Promise.all([...crew, meter].map((child) => child.end()));
  }
}

/** The stalls of the meter that are longer than the guard of a budget. */
function longStalls(reading: Reading, budget: Budget): Stall[] {
  return reading.stalls.filter((stall) => stall.toUs - stall.fromUs > guardUs(budget));
}

function row(
  setting: Setting,
  reading: Reading,
  ledger: number | undefined,
  backlog: number,
): Omit<Row, "failure"> {
  const budget = parseBudget(setting.rate);
  const stalls = longStalls(reading, budget);
  const queue = judge(reading.startsUs, budget, stalls);
  const lanes = setting.laneRate
    ? judgeLanes(byLane(reading.startsUs, reading.lanes), parseBudget(setting.laneRate), stalls)
    : [];
  const all = [queue, ...lanes];
  const whole = judge(reading.startsUs, allowed(setting));
  const sum = (pick: (verdict: Verdict) => number): number => all.reduce((total, v) => total + pick(v), 0);
  return {
    cells: {
      limit: settingText(setting),
      starts: queue.starts,
      over: sum((v) => v.over),
      "near stall": sum((v) => v.overNearStall),
      stalls: stalls.length,
      "worst/limit": Math.max(...all.map((v) => v.worst)),
      "use %": whole.usePercent,
      "jitter p50 ms": whole.jitterP50Ms,
      "p99 ms": whole.jitterP99Ms,
      "ledger over": ledger,
    },
    ...(queue.starts >= backlog && backlog > 0 ? { note: "the backlog ran dry" } : {}),
  };
}

async function measure(context: Context, contestant: Contestant, setting: Setting): Promise<Row> {
  const seconds = context.settings.seconds ?? (context.settings.quick ? quickSeconds : fullSeconds);
  const { variant, concurrency } = contestant;
  const options = {
    rate: parseBudget(setting.rate),
    ...(variant ? { variant } : {}),
    ...(concurrency ? { concurrency } : {}),
    ...(setting.lanes ? { lanes: true } : {}),
    ...(setting.laneRate ? { laneRate: parseBudget(setting.laneRate) } : {}),
  };
  const subject = { label: contestant.label, peer: contestant.peer, options };
  const shown = { label: contestant.label, peer: contestant.peer };
  context.say(settingText(setting));
  const measured = await measureRow(context, shown, async () => {
    const call = await freshStore(context, subject);
    const budget = parseBudget(setting.rate);
    const backlog = Math.ceil(((1000 * budget.limit) / budget.periodMs) * (seconds + 5) * 1.3) + 100;
    const fill: FillCall = { count: backlog, lanes: setting.lanes ?? 1, batch: 1000 };
    await withEngine(call, (child) => child.call("fill", fill, 120_000));
    const reading = await meterRun(call, contestant.workers ?? context.settings.workers, seconds);
    const ledger = contestant.peer === "sluice" ? await ledgerOver(call.options.url, setting) : undefined;
    return row(setting, reading, ledger, backlog);
  });
  return { ...measured, cells: { limit: settingText(setting), ...measured.cells } };
}

/** The benchmark `accuracy`. */
export const accuracy: Suite = {
  description: "windows over the limit, use of the budget and jitter, with several worker processes",
  async run(context) {
    const { only, workers } = context.settings;
    const chosen = context.settings.rates ?? rates;
    const queueWide = chosen.flatMap((rate): Setting[] => [
      { rate, lanes: 3 },
      { rate, lanes: 100 },
      { rate },
    ]);
    const tables: Table[] = [];
    const groups: [string, readonly Setting[]][] = [
      [`Queue-wide limit, ${workers} worker processes`, queueWide],
      [
        `Queue limit and partition limit together, ${workers} worker processes`,
        combined.filter(({ rate }) => chosen.includes(rate)),
      ],
    ];
    for (const [title, settings] of groups) {
      const rows: Row[] = [];
      for (const setting of settings) {
        const entered = contestants(setting).filter(
          ({ peer }) => peer === "bare-timer" || only.includes(peer),
        );
        for (const contestant of entered) rows.push(await measure(context, contestant, setting));
      }
      if (rows.length > 0) tables.push({ title, columns, rows, legend });
    }
    return tables;
  },
};
