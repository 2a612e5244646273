/**
 * RL1 and RL1b. The ledger is judged with tolerance 0 on the store's clock; the handlers' own starts on the machine's
 * monotonic clock, where a window is listed apart only if one of its starts is the first thing its process did after
 * standing still longer than the guard (a SIGSTOP between the worker's last look at the clock and the handler's first
 * line cannot be told from lateness). Only that one start a standstill can be excused so.
 */
import type { History, RatePolicy, Run } from "./history.ts";
import type { Report } from "./report.ts";
import { countWhere, groupBy, inMs, merge } from "./spans.ts";

interface Start {
  readonly time: number;
  readonly ref: string;
  readonly excused: boolean;
}

/** Judges all limits of all queues. */
export function checkRates(history: History, report: Report): void {
  const grants = groupBy(history.grants, (grant) => `${grant.scope}\n${grant.queue}\n${grant.partition}`);
  for (const group of grants.values()) {
    const { scope, queue, partition } = group[0] as (typeof group)[0];
    const policy = ratePolicy(history, scope, queue);
    if (policy === null) continue;
    const name = scope === "queue" ? `queue ${queue}` : `partition ${queue}/${partition}`;
    const starts = group.map((grant) => ({ time: grant.start, ref: grant.ref, excused: false }));
    checkLedger(`ledger of ${name}`, starts, policy, report);
  }
  const excused = excusedRuns(history);
  const runs = groupBy(history.runs, (run) => run.queue);
  for (const [queue, ofQueue] of runs) {
    checkHandlers(`handlers of queue ${queue}`, ofQueue, {
      policy: ratePolicy(history, "queue", queue),
      excused,
      report,
    });
    for (const [partition, ofPartition] of groupBy(ofQueue, (run) => run.partition))
      checkHandlers(`handlers of partition ${queue}/${partition}`, ofPartition, {
        policy: ratePolicy(history, "partition", queue),
        excused,
        report,
      });
  }
}

function ratePolicy(history: History, scope: "queue" | "partition", queue: string): RatePolicy | null {
  const policy = history.policies.queues[queue];
  if (policy === undefined) return null;
  return scope === "queue" ? policy.rate : policy.partition.rate;
}

function checkLedger(name: string, starts: Start[], policy: RatePolicy, report: Report): void {
  starts.sort((a, b) => a.time - b.time);
  report.checked("RL1", starts.length);
  checkWindows(name, starts, { policy, report });
  report.checked("RL1b", starts.length);
  // For all i <= j: (j - i + 1 - burst) * period <= limit * (t_j - t_i). With h(i) = i * period - limit * t_i that is
  // (j + 1 - burst) * period - limit * t_j <= h(i), so the least h so far is all that has to be kept. Exact in doubles:
  // times are taken from the first start, products stay below 2^53.
  const { limit, periodUs, burst } = policy;
  const zero = starts[0]?.time ?? 0;
  let least = Number.POSITIVE_INFINITY;
  let leastAt = 0;
  for (const [j, start] of starts.entries()) {
    const h = j * periodUs - limit * (start.time - zero);
    if (h < least) {
      least = h;
      leastAt = j;
    }
    const excess = h + (1 - burst) * periodUs - least;
    if (excess > 0) {
      const first = starts[leastAt] as Start;
      report.violate(
        "RL1b",
        `${name}: ${j - leastAt + 1} starts within ${inMs(start.time - first.time)}, burst ${burst} and ` +
          `${limit} per ${inMs(periodUs)} allow ${burst + Math.floor((limit * (start.time - first.time)) / periodUs)}`,
        first.ref,
        start.ref,
      );
    }
  }
}

/** In every half-open window (t - P, t] at most limit + burst - 1 starts: two pointers over the sorted starts. */
function checkWindows(
  name: string,
  starts: readonly Start[],
  { policy, report }: { policy: RatePolicy; report: Report },
): void {
  const most = policy.limit + policy.burst - 1;
  let first = 0;
  for (const [index, start] of starts.entries()) {
    while ((starts[first] as Start).time <= start.time - policy.periodUs) first += 1;
    const count = index - first + 1;
    if (count <= most) continue;
    const oldest = starts[first] as Start;
    const text = `${name}: ${count} starts within ${inMs(start.time - oldest.time)}, at most ${most} in ${inMs(policy.periodUs)}`;
    if (starts.slice(first, index + 1).some((one) => one.excused))
      report.setApart(
        "RL1",
        "a start of the window follows a standstill of its process",
        text,
        oldest.ref,
        start.ref,
      );
    else report.violate("RL1", text, oldest.ref, start.ref);
  }
}

function checkHandlers(
  name: string,
  runs: readonly Run[],
  { policy, excused, report }: { policy: RatePolicy | null; excused: ReadonlySet<Run>; report: Report },
): void {
  if (policy === null) return;
  const starts = runs.map((run) => ({ time: run.start, ref: run.ref, excused: excused.has(run) }));
  starts.sort((a, b) => a.time - b.time);
  report.checked("RL1", starts.length);
  checkWindows(name, starts, { policy, report });
}

/** The first start of each process after each of its standstills longer than the guard of the start's queue. */
function excusedRuns(history: History): Set<Run> {
  const excused = new Set<Run>();
  for (const [name, runs] of groupBy(history.runs, (run) => run.process)) {
    const process = history.processes.get(name);
    if (process === undefined) continue;
    runs.sort((a, b) => a.start - b.start);
    for (const span of merge([...process.stops, ...process.stalls], 1000)) {
      const index = countWhere(runs, (run) => run.start < span.from);
      const run = runs[index];
      const policy = run && history.policies.queues[run.queue];
      if (run === undefined || policy === undefined || run.start > span.to) continue;
      const guardUs = Math.max(policy.rate?.guardUs ?? 0, policy.partition.rate?.guardUs ?? 0);
      if (span.to - span.from > guardUs) excused.add(run);
    }
  }
  return excused;
}
