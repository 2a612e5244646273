/**
 * What the fault log says about each run: how long it was protected by a lease that nothing could have ended, and when
 * at the latest the store may have given its slot away.
 *
 * The checker does not see leases. It knows when a process could not renew one: while it was stopped, while its event
 * loop stood still, while PostgreSQL was down. A lease granted for L and renewed at least every L/3 cannot run out in a
 * process that was never kept from renewing for L/2. So a run is protected from its start to the first of: its end, its
 * process's death, half a lease into such a hindrance (which lasts until a renewal must have come through, L/3 after its
 * end), a cancel of its task. Two protected runs of one task at a time are a broken lease, whoever is to blame; beyond its
 * protection a run is a zombie, whose time is reported.
 */
import type { Fault, History, Process, Run, Span } from "./history.ts";
import { countWhere, groupBy, merge, SpanSet } from "./spans.ts";

/** One run with what can be said about its lease and its slot. */
export interface Lifetime {
  readonly run: Run;
  /** The end of its execution: its end line, or the earliest instant its process may have died, or the log's end. */
  readonly end: number;
  /** Up to here nothing can have taken its lease. At most `end`. */
  readonly protectedTo: number;
  /** True if it has no end line because its process died. */
  readonly died: boolean;
  /** From here on its slot is certainly free. */
  slotFreeBy: number;
}

/** All lifetimes, and the hindrances of the whole fleet. */
export interface Lifetimes {
  /** In order of start. */
  readonly all: readonly Lifetime[];
  /** Runs of one task in order of start. */
  readonly byTask: ReadonlyMap<string, readonly Lifetime[]>;
  /** PostgreSQL down or the workers not yet back on it. */
  readonly outages: SpanSet;
  /** Outages, and times with no worker process able to run: nothing can be asked of anyone. */
  readonly nothingRuns: SpanSet;
  readonly faults: readonly Fault[];
}

/** Works out the lifetimes of a history. */
export function lifetimesOf(history: History): Lifetimes {
  const { leaseMs, sweepMs, reconnectMs, slackMs } = history.policies;
  const outageSpans = history.faults
    .filter((fault) => fault.what === "restart")
    .map((fault) => ({ from: fault.from, to: fault.to + reconnectMs * 1000 }));
  const outages = new SpanSet(outageSpans);
  const hindrances = new Map<string, Span[]>();
  for (const process of history.processes.values())
    hindrances.set(process.name, hindrancesOf(process, history, leaseMs * 1000));
  const cancels = groupBy(
    history.commands.filter((command) => command.op === "cancel" && command.outcome !== "fail"),
    (command) => command.task,
  );

  const all = [...history.runs]
    .sort((a, b) => a.start - b.start || a.fence - b.fence)
    .map((run): Lifetime => {
      const process = history.processes.get(run.process) as Process;
      const died = run.end === null && process.diedFrom !== Number.POSITIVE_INFINITY;
      const end = run.end ?? (died ? Math.max(run.start, process.diedFrom) : history.until);
      const lapse = lapseAfter(run.start, hindrances.get(run.process) as Span[], leaseMs * 1000);
      const cancel = Math.min(
        ...(cancels.get(run.task) ?? []).map((command) => Math.max(run.start, command.invoked)),
      );
      return { run, end, died, protectedTo: Math.min(end, lapse, cancel), slotFreeBy: end };
    });
  const byTask = groupBy(all, (lifetime) => lifetime.run.task);
  const recoveryUs = (leaseMs + sweepMs + slackMs) * 1000;
  for (const lifetimes of byTask.values()) {
    for (const [index, lifetime] of lifetimes.entries()) {
      if (!lifetime.died && lifetime.protectedTo === lifetime.end) continue;
      const lostAt = lifetime.died ? lifetime.end : lifetime.protectedTo;
      lifetime.slotFreeBy = Math.min(lifetimes[index + 1]?.run.start ?? Infinity, lostAt + recoveryUs);
    }
  }
  const idle = fleetIdle(history);
  return {
    all,
    byTask,
    outages,
    nothingRuns: new SpanSet([...outageSpans, ...idle]),
    faults: history.faults,
  };
}

/** The spans, in order, in which this process was kept from renewing for half a lease or more. */
function hindrancesOf(process: Process, history: History, leaseUs: number): Span[] {
  const down = history.faults.filter((fault) => fault.what === "restart");
  const hindrances = merge([...process.stops, ...process.stalls, ...down], leaseUs / 3);
  return hindrances.filter((span) => span.to - span.from >= leaseUs / 2);
}

/**
 * The first instant from `start` on at which the lease may have run out; Infinity if never. A lease may be a worker's and so
 * older than the run: a run that starts late in a hindrance, or right after it before the next renewal, is not protected.
 */
function lapseAfter(start: number, hindrances: readonly Span[], leaseUs: number): number {
  const renewalUs = leaseUs / 3;
  const span = hindrances[countWhere(hindrances, (one) => one.to + renewalUs <= start)];
  return span === undefined ? Number.POSITIVE_INFINITY : Math.max(start, span.from + leaseUs / 2);
}

/** Shorter standstills of a process are noise, covered by D. */
const standstillUs = 500_000;

/** Times without one worker process that was alive and running, and past its start-up. */
function fleetIdle(history: History): Span[] {
  const startUpUs = history.policies.reconnectMs * 1000;
  const changes: { at: number; by: number }[] = [];
  for (const process of history.processes.values()) {
    const away = merge([...process.stops, ...process.stalls]).filter(
      (span) => span.to - span.from >= standstillUs,
    );
    const death = Math.min(process.diedFrom, history.until);
    let from = process.born + startUpUs;
    for (const span of [...away, { from: death, to: death }]) {
      if (span.from > from) changes.push({ at: from, by: 1 }, { at: Math.min(span.from, death), by: -1 });
      from = Math.max(from, span.to);
    }
  }
  changes.sort((a, b) => a.at - b.at || b.by - a.by);
  const idle: Span[] = [];
  let able = 0;
  let since = 0;
  for (const change of changes) {
    if (able === 0 && change.by > 0) idle.push({ from: since, to: change.at });
    able += change.by;
    if (able === 0) since = change.at;
  }
  idle.push({ from: since, to: Number.MAX_SAFE_INTEGER });
  return idle;
}
