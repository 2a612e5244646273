/** The report as a person reads it, within 80 columns. Pure: a report in, lines out. */

import type { PlannedKill } from "./kill-plan.ts";
import { dataTypes, queueName, rateText } from "./providers.ts";
import { type DemoReport, judgedGapsMin, type KillReport, type QueueReport } from "./report.ts";
import type { Paint } from "./screen.ts";

const ruleWidth = 78;
const barWidth = 30;

/** Names what will happen, before the first request. */
export function headerLines(facts: {
  readonly workflows: number;
  readonly requests: number;
  readonly store: string;
  readonly workers: number;
  readonly apiUrl: string;
  readonly seconds: number;
  readonly kills: readonly PlannedKill[];
}): string[] {
  const { workflows, requests, store, workers, apiUrl, seconds, kills } = facts;
  const paces = dataTypes.map((dataType) => {
    const pace = (dataType.periodMs / dataType.limit / 1000).toFixed(2);
    return `  ${queueName(dataType).padEnd(18)} ${rateText(dataType).padEnd(6)} one request every ${pace} s`;
  });
  return [
    `${workflows} workflows, ${workflows * requests} requests, three queues; about ${Math.ceil(seconds)} seconds.`,
    "",
    ...paces,
    "",
    `  API      ${apiUrl}, a process of its own that refuses what is too much`,
    `  workers  ${workers} ${workers === 1 ? "process" : "processes"}`,
    `  store    ${store}`,
    ...(kills.length === 0 ? [] : [`  SIGKILL  ${kills.map(killText).join(", ")} after the first request`]),
    "",
  ];
}

function killText({ afterMs, inCall }: PlannedKill): string {
  return `${(afterMs / 1000).toFixed(1)} s${inCall ? " (in a call)" : ""}`;
}

/** One queue on the way. */
export interface QueueStatus {
  readonly queue: string;
  readonly rate: string;
  readonly done: number;
  readonly expected: number;
  readonly refused: number;
}

/** The status below the log: a bar for each queue. */
export function statusLines(queues: readonly QueueStatus[], paint: Paint): string[] {
  const bars = queues.map(({ queue, rate, done, expected, refused }) => {
    const filled = expected === 0 ? 0 : Math.round((Math.min(done, expected) / expected) * barWidth);
    const bar = `${paint("cyan", "█".repeat(filled))}${paint("dim", "░".repeat(barWidth - filled))}`;
    const count = `${done}/${expected}`.padStart(7);
    const refusals = paint(refused === 0 ? "green" : "red", `${refused} × 429`);
    return `  ${queue.padEnd(18)} ${rate.padEnd(6)} ${bar} ${count}   ${refusals}`;
  });
  return ["", ...bars];
}

/** The closing table with its verdict. */
export function tableLines(report: DemoReport, paint: Paint): string[] {
  const rule = paint("dim", "─".repeat(ruleWidth));
  const lines = [
    "",
    rule,
    paint("bold", row(["Queue", "Allowed", "Requests", "429", "Achieved", "Gaps (s)", "Order"])),
    rule,
    ...report.queues.map((queue) => queueLine(queue, paint)),
    rule,
    ...killLines(report, paint),
    ...remarkLines(report),
  ];
  if (report.held && report.doneBefore === report.expected) {
    return [...lines, `${paint("green", "Held:")} nothing was left to do.`];
  }
  if (report.held) {
    const kills = report.kills.length === 0 ? "" : `, ${report.kills.length} × SIGKILL`;
    const verdict = `${report.distinct} requests in ${report.seconds.toFixed(1)} s, 0 refused, order kept${kills}.`;
    return [...lines, `${paint("green", "Held:")} ${verdict}`];
  }
  return [
    ...lines,
    paint("red", "Did not hold:"),
    ...report.failures.map(indent),
    ...noteLines(report.notes),
  ];
}

/** What the workers told on the way: the first place to look when a run did not hold. */
export function noteLines(notes: readonly string[]): string[] {
  return notes.length === 0 ? [] : ["What the workers told:", ...notes.map(indent)];
}

function indent(line: string): string {
  return `  ${line}`;
}

const columns = [
  { width: 18, right: false },
  { width: 8, right: false },
  { width: 8, right: true },
  { width: 4, right: true },
  { width: 9, right: true },
  { width: 15, right: true },
  { width: 7, right: true },
] as const;

function row(cells: readonly string[]): string {
  const padded = columns.map(({ width, right }, index) => {
    const cell = cells[index] ?? "";
    return right ? cell.padStart(width) : cell.padEnd(width);
  });
  return padded.join(" ").trimEnd();
}

function queueLine(queue: QueueReport, paint: Paint): string {
  const percent = queue.achievedPercent === null ? "-" : `${queue.achievedPercent.toFixed(1)} %`;
  const gaps =
    [queue.gapMinMs, queue.gapMaxMs]
      .filter((gap) => gap !== null)
      .map(gapText)
      .join(" – ") || "-";
  const again = queue.requests - queue.distinct;
  const made = again === 0 ? `${queue.distinct}` : `${queue.distinct} + ${again}`;
  const order = queue.orderKept ? "kept" : "broken";
  const line = row([queue.queue, queue.rate, made, String(queue.refused), percent, gaps, order]);
  return queue.refused > 0 || !queue.orderKept ? paint("red", line) : line;
}

function gapText(ms: number): string {
  return (ms / 1000).toFixed(3);
}

function killLines(report: DemoReport, paint: Paint): string[] {
  if (report.kills.length === 0) return [];
  const gaps = report.queues.reduce((total, queue) => total + queue.gapsInOutage, 0);
  return [
    paint("bold", "SIGKILL at  Worker  Back after  Calls in flight"),
    ...report.kills.flatMap(killRows),
    paint("dim", "─".repeat(ruleWidth)),
    `The achieved rates leave out the ${gaps} gaps that touch an outage.`,
  ];
}

/** A row for the kill, and one more for each further call it broke. */
function killRows(kill: KillReport): string[] {
  const back = kill.backAtS === null ? "-" : `${(kill.backAtS - kill.atS).toFixed(2)} s`;
  const [first = "none", ...others] = kill.inFlight.map(
    ({ queue, provider, number, answered }) =>
      `${queue} ${provider} #${number}${answered ? " (answered)" : ""}`,
  );
  const instant = `${kill.atS.toFixed(2)} s`.padStart(10);
  const row = `${instant}  ${String(kill.worker).padStart(6)}  ${back.padStart(10)}  ${first}`;
  return [row, ...others.map((call) => call.padStart(32 + call.length))];
}

function remarkLines(report: DemoReport): string[] {
  const lines: string[] = [];
  if (report.doneBefore > 0) {
    lines.push(`${report.doneBefore} of ${report.expected} requests had been made by an earlier run.`);
  }
  if (report.repeated > 0) {
    const calls =
      report.repeated === 1
        ? "1 call, in flight at a kill, was"
        : `${report.repeated} calls, in flight at a kill, were`;
    lines.push(`${calls} made again under the same Idempotency-Key.`);
  } else if (report.kills.length > 0) {
    lines.push("No call was sent twice.");
  }
  if (report.queues.some(({ judged, requests }) => requests > 1 && !judged)) {
    lines.push(`A rate over fewer than ${judgedGapsMin} gaps is shown, not judged.`);
  }
  const over = report.queues.reduce((total, queue) => total + queue.windowsOver, 0);
  const stalled = report.queues.reduce((total, queue) => total + queue.windowsOverInStall, 0);
  if (over > 0)
    lines.push(`${over} windows over the limit, ${stalled} of them touch a stall of the meter itself.`);
  if (report.meterStalls.count > 0) {
    const { count, longestMs } = report.meterStalls;
    const stalls = count === 1 ? "once" : `${count} times`;
    lines.push(`The meter's own clock was held up ${stalls}, for ${longestMs.toFixed(0)} ms at most.`);
  }
  return lines;
}

/** What is left to say when a person stopped the run. */
export function stoppedLines(report: DemoReport): string[] {
  const done = report.doneBefore + report.distinct;
  return ["", `Stopped: ${done} of ${report.expected} requests were made.`];
}
