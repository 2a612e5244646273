/**
 * What a run came to, computed from the meter's record alone (and from the instants of the kills, on the same clock).
 *
 * The achieved rate is (requests − 1) / (last − first) against limit / period. With kills, the gaps that touch an
 * outage are left out on both sides of the division and listed with the kill instead: an outage reaches from the
 * SIGKILL until the replacement works and every call that was in flight has been made again.
 */

import { type DataType, dataTypes, queueName, rateText } from "./providers.ts";
import type { Arrival } from "./stand-in/meter.ts";
import type { CutNotice, MeterReport } from "./stand-in/server.ts";
import type { SyncOutcome } from "./sync.ts";

/** The least share of the allowed rate a run must use, in percent. */
export const achievedPercentMin = 97;

/**
 * A rate over fewer gaps than this is shown, not judged: the first start after a pause may take its time, some ten
 * milliseconds that mean nothing in a run and much in a handful of gaps. A whole run has 14 in each queue.
 */
export const judgedGapsMin = 8;

/** A SIGKILL of a worker; times are on the meter's clock. */
export interface Kill {
  readonly worker: number;
  atUs: number;
  /** When the replacement worked; undefined when the run was stopped before. */
  backUs?: number;
  /** Calls whose connection broke with the worker. */
  readonly cut: CutNotice[];
}

/** What a report is made of. */
export interface RunRecord {
  readonly engine: "embedded" | "postgres";
  readonly workers: number;
  /** Kills planned, 0 without `--crash`. */
  readonly killsPlanned: number;
  readonly kills: readonly Kill[];
  /** Requests that the workflows ask for, in each queue. */
  readonly expectedPerQueue: number;
  /** Requests that had been done before the first worker of this run worked, by queue. */
  readonly doneBefore: Readonly<Record<string, number>>;
  readonly meter: MeterReport;
  /** How the work ended; undefined when the run was stopped before. */
  readonly outcome: SyncOutcome | undefined;
  /** What the workers told on the way: starts given back, retries, lost leases. */
  readonly notes: readonly string[];
}

/** The line of one queue in the closing table. Times in milliseconds. */
export interface QueueReport {
  readonly queue: string;
  readonly dataType: string;
  readonly rate: string;
  readonly limit: number;
  readonly periodMs: number;
  /** Requests the workflows asked for, and how many of them an earlier run had done. */
  readonly expected: number;
  readonly doneBefore: number;
  /** Requests that reached the API in this run, all, by distinct key, repeated, and refused with 429. */
  readonly requests: number;
  readonly distinct: number;
  readonly repeated: number;
  readonly refused: number;
  readonly worstWindow: number;
  /** Windows over the limit, and those of them that touch a stall of the meter. */
  readonly windowsOver: number;
  readonly windowsOverInStall: number;
  /** Requests per second, allowed and achieved; null when there were not two requests to measure. */
  readonly allowedPerS: number;
  readonly achievedPerS: number | null;
  readonly achievedPercent: number | null;
  /** Smallest gap of all, largest gap that touches no outage. */
  readonly gapMinMs: number | null;
  readonly gapMaxMs: number | null;
  /** Whether the achieved rate stands on enough gaps to be judged. */
  readonly judged: boolean;
  /** Gaps left out of the achieved rate because they touch an outage. */
  readonly gapsInOutage: number;
  readonly orderKept: boolean;
}

/** One kill in the report; seconds since the first request of the run. */
export interface KillReport {
  readonly worker: number;
  readonly atS: number;
  readonly backAtS: number | null;
  /** Calls that were sent and not yet recorded as done at the kill: the ones that may reach the API twice. */
  readonly inFlight: readonly InFlightCall[];
}

/** A call in flight at a kill. */
export interface InFlightCall {
  readonly queue: string;
  readonly provider: string;
  readonly number: number;
  /** True when the API had answered it already; false when the kill cut its connection. */
  readonly answered: boolean;
}

/** What a run came to. */
export interface DemoReport {
  /** True when every promise held; the exit code says the same. */
  readonly held: boolean;
  /** One sentence for each promise that did not hold. */
  readonly failures: readonly string[];
  readonly engine: "embedded" | "postgres";
  readonly workers: number;
  readonly seconds: number;
  readonly expected: number;
  readonly doneBefore: number;
  readonly distinct: number;
  readonly refused: number;
  /** Requests sent again under a key the API had served; only a call in flight at a kill may be. */
  readonly repeated: number;
  readonly queues: readonly QueueReport[];
  readonly kills: readonly KillReport[];
  /** Stalls of the meter's own process, longest in milliseconds. */
  readonly meterStalls: { readonly count: number; readonly longestMs: number };
  readonly notes: readonly string[];
}

/** Builds the report of a run. */
export function buildReport(record: RunRecord): DemoReport {
  const queues = dataTypes.map((dataType) => queueReport(record, dataType));
  const firstUs = firstArrivalUs(record.meter);
  const lastUs = Math.max(
    firstUs,
    ...record.meter.dataTypes.flatMap(({ arrivals }) => arrivals.map(({ atUs }) => atUs)),
  );
  const sum = (pick: (queue: QueueReport) => number): number =>
    queues.reduce((total, queue) => total + pick(queue), 0);
  const stalls = record.meter.stalls.map((stall) => (stall.untilUs - stall.fromUs) / 1000);
  const failures = failuresOf(record, queues);
  return {
    held: failures.length === 0,
    failures,
    engine: record.engine,
    workers: record.workers,
    seconds: (lastUs - firstUs) / 1e6,
    expected: sum((queue) => queue.expected),
    doneBefore: sum((queue) => queue.doneBefore),
    distinct: sum((queue) => queue.distinct),
    refused: sum((queue) => queue.refused),
    repeated: sum((queue) => queue.repeated),
    queues,
    kills: record.kills.map((kill) => killReport(kill, record, firstUs)),
    meterStalls: { count: stalls.length, longestMs: Math.max(0, ...stalls) },
    notes: record.notes,
  };
}

/** When the first request of the run came, on the meter's clock; 0 when none came. */
function firstArrivalUs(meter: MeterReport): number {
  const firsts = meter.dataTypes.flatMap(({ arrivals }) => arrivals.slice(0, 1).map(({ atUs }) => atUs));
  return firsts.length === 0 ? 0 : Math.min(...firsts);
}

function queueReport(record: RunRecord, dataType: DataType): QueueReport {
  const seen = record.meter.dataTypes.find((report) => report.dataType === dataType.name)!;
  const outages = record.kills.map((kill) => outageOf(kill, record, dataType.name));
  const gaps = gapsOf(seen.arrivals);
  const clean = gaps.filter(
    (gap) => !outages.some((outage) => gap.fromUs < outage.untilUs && gap.untilUs > outage.fromUs),
  );
  const cleanUs = clean.reduce((total, gap) => total + gap.untilUs - gap.fromUs, 0);
  const allowedPerS = (dataType.limit / dataType.periodMs) * 1000;
  const achievedPerS = clean.length === 0 ? null : (clean.length / cleanUs) * 1e6;
  return {
    queue: queueName(dataType),
    dataType: dataType.name,
    rate: rateText(dataType),
    limit: dataType.limit,
    periodMs: dataType.periodMs,
    expected: record.expectedPerQueue,
    doneBefore: record.doneBefore[queueName(dataType)] ?? 0,
    requests: seen.requests,
    distinct: seen.distinct,
    repeated: seen.repeats,
    refused: seen.refused,
    worstWindow: seen.worstWindow,
    windowsOver: seen.windowsOver,
    windowsOverInStall: seen.windowsOverInStall,
    allowedPerS,
    achievedPerS,
    achievedPercent: achievedPerS === null ? null : (achievedPerS / allowedPerS) * 100,
    gapMinMs: seen.gapMinUs === null ? null : seen.gapMinUs / 1000,
    gapMaxMs: clean.length === 0 ? null : Math.max(...clean.map((gap) => gap.untilUs - gap.fromUs)) / 1000,
    judged: clean.length >= judgedGapsMin,
    gapsInOutage: gaps.length - clean.length,
    orderKept: Object.values(seen.orderKept).every((kept) => kept),
  };
}

interface Span {
  readonly fromUs: number;
  readonly untilUs: number;
}

function gapsOf(arrivals: readonly Arrival[]): Span[] {
  return arrivals
    .slice(1)
    .map((arrival, index) => ({ fromUs: arrivals[index]!.atUs, untilUs: arrival.atUs }));
}

/** A call that reached the API a second time, and the kill that was the reason: the first after it was sent before. */
interface MadeAgain extends Arrival {
  readonly dataType: string;
  readonly kill: Kill | undefined;
}

function callsMadeAgain(record: RunRecord): MadeAgain[] {
  const kills = [...record.kills].sort((a, b) => a.atUs - b.atUs);
  return record.meter.dataTypes.flatMap(({ dataType, arrivals }) =>
    arrivals.flatMap((arrival, index) => {
      if (!arrival.repeat) return [];
      const sentBefore = arrivals.slice(0, index).findLast(({ key }) => key === arrival.key)!;
      const kill = kills.find(({ atUs }) => atUs >= sentBefore.atUs && atUs < arrival.atUs);
      return [{ ...arrival, dataType, kill }];
    }),
  );
}

/** From the kill until a worker is back and the calls of this queue that it broke have been made again. */
function outageOf(kill: Kill, record: RunRecord, dataType: string): Span {
  const again = callsMadeAgain(record).filter((call) => call.kill === kill && call.dataType === dataType);
  return {
    fromUs: kill.atUs,
    untilUs: Math.max(kill.backUs ?? record.meter.nowUs, ...again.map(({ atUs }) => atUs)),
  };
}

function killReport(kill: Kill, record: RunRecord, firstUs: number): KillReport {
  const cutKeys = new Set(kill.cut.map(({ key }) => key));
  // The API had answered these, but the worker had not yet recorded it.
  const answered = callsMadeAgain(record).filter((call) => call.kill === kill && !cutKeys.has(call.key));
  const describeCall = (call: CutNotice | MadeAgain): InFlightCall => ({
    queue: queueName(call.dataType),
    provider: call.provider,
    number: call.number,
    answered: !cutKeys.has(call.key),
  });
  return {
    worker: kill.worker,
    atS: (kill.atUs - firstUs) / 1e6,
    backAtS: kill.backUs === undefined ? null : (kill.backUs - firstUs) / 1e6,
    inFlight: [...kill.cut, ...answered].map(describeCall),
  };
}

function failuresOf(record: RunRecord, queues: readonly QueueReport[]): string[] {
  const failures: string[] = [];
  for (const queue of queues) failures.push(...queueFailures(queue));
  if (record.outcome === undefined) failures.push("The run was stopped before its work was done.");
  const expected = queues.length * record.expectedPerQueue;
  if (record.outcome !== undefined && record.outcome.succeeded !== expected) {
    failures.push(`${record.outcome.succeeded} of ${expected} tasks succeeded.`);
  }
  failures.push(...(record.outcome?.failures ?? []).map((failure) => `A task failed for good: ${failure}`));
  const unexplained = callsMadeAgain(record).filter(({ kill }) => kill === undefined).length;
  if (unexplained > 0) failures.push(`${unexplained} requests were sent twice, and no kill explains it.`);
  const fresh = queues.every((queue) => queue.doneBefore === 0);
  if (fresh && record.kills.length < record.killsPlanned) {
    failures.push(`Only ${record.kills.length} of ${record.killsPlanned} kills took place.`);
  }
  return failures;
}

function queueFailures(queue: QueueReport): string[] {
  const failures: string[] = [];
  const done = queue.distinct + queue.doneBefore;
  if (queue.refused > 0) failures.push(`${queue.queue}: ${queue.refused} requests were refused with 429.`);
  if (done !== queue.expected)
    failures.push(`${queue.queue}: ${done} of ${queue.expected} requests were made.`);
  if (!queue.orderKept) failures.push(`${queue.queue}: a provider's requests came out of order.`);
  const percent = queue.achievedPercent;
  if (queue.judged && percent !== null && (percent < achievedPercentMin || percent > 100)) {
    const shown = percent.toFixed(1);
    failures.push(
      `${queue.queue}: the achieved rate is ${shown} % of the allowed, not ${achievedPercentMin} to 100 %.`,
    );
  }
  return failures;
}

/** The report for machines: the same fields in snake_case, numbers rounded to a millionth. */
export function reportJson(report: DemoReport): string {
  return JSON.stringify(snakeCase(report), null, 2);
}

function snakeCase(value: unknown): unknown {
  if (typeof value === "number") return Math.round(value * 1e6) / 1e6;
  if (Array.isArray(value)) return value.map(snakeCase);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]): [string, unknown] => [
    key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    snakeCase(inner),
  ]);
  return Object.fromEntries(entries);
}
