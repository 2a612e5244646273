/** Q4 fences, Q5 leases, Q6 tokens and starts, Q7 concurrency: what a claim promises. */
import type { Grant, History, Run } from "./history.ts";
import { terminalStates } from "./history.ts";
import type { Lifetimes } from "./lifetimes.ts";
import type { Report } from "./report.ts";
import { groupBy, inMs } from "./spans.ts";

/** Q4: in order of time, the fences of a task's starts and grants rise strictly, those of its step records never fall. */
export function checkFences(history: History, lifetimes: Lifetimes, report: Report): void {
  for (const [task, ofTask] of lifetimes.byTask) {
    const runs = ofTask.map((lifetime) => lifetime.run);
    checkRising(`task ${task}: starts`, runs, report);
    const maxAttempts = history.policies.queues[(runs[0] as Run).queue]?.maxAttempts ?? Infinity;
    const ordered = [...runs].sort((a, b) => a.fence - b.fence);
    for (const [index, run] of ordered.entries()) {
      const before = ordered[index - 1];
      if (before !== undefined && run.attempt < before.attempt)
        report.violate(
          "Q4",
          `task ${task}: attempt ${run.attempt} after ${before.attempt}`,
          before.ref,
          run.ref,
        );
      if (run.attempt > maxAttempts)
        report.violate("Q4", `task ${task}: attempt ${run.attempt}, at most ${maxAttempts}`, run.ref);
    }
  }
  const grants = groupBy(history.grants, (grant) => `${grant.scope}\n${grant.task}`);
  for (const ofTask of grants.values()) {
    ofTask.sort((a, b) => a.at - b.at || a.fence - b.fence);
    checkRising(`task ${(ofTask[0] as Grant).task}: ledger`, ofTask, report);
  }
}

/** Q4 for records: a step recorded under a fence after a run with a higher one had started. */
export function checkStepFences(history: History, lifetimes: Lifetimes, report: Report): void {
  for (const step of history.finalSteps) {
    if (step.fence === null || step.at === null) continue;
    report.checked("Q4");
    const at = step.at - history.wallOffset - clockToleranceUs - history.wallSpread;
    const later = lifetimes.byTask
      .get(step.task)
      ?.find(({ run }) => run.fence > (step.fence as number) && run.start < at);
    if (later !== undefined)
      report.violate(
        "Q4",
        `task ${step.task}: step ${step.step} recorded under fence ${step.fence} after ${later.run.fence} had started`,
        step.ref,
        later.run.ref,
      );
  }
}

interface Fenced {
  readonly fence: number;
  readonly ref: string;
}

function checkRising(name: string, records: readonly Fenced[], report: Report): void {
  let highest: Fenced | undefined;
  for (const record of records) {
    report.checked("Q4");
    if (highest !== undefined && record.fence <= highest.fence)
      report.violate(
        "Q4",
        `${name}: fence ${record.fence} follows ${highest.fence}`,
        highest.ref,
        record.ref,
      );
    if (highest === undefined || record.fence > highest.fence) highest = record;
  }
}

/** Q5: no two protected runs of a task at one time; what overlaps beyond protection is zombie time. */
export function checkLeases(lifetimes: Lifetimes, report: Report): void {
  let zombies = 0;
  let longest = 0;
  for (const [task, ofTask] of lifetimes.byTask) {
    let latest = ofTask[0];
    report.checked("Q5", ofTask.length);
    for (const next of ofTask.slice(1)) {
      if (latest !== undefined && next.run.start < latest.protectedTo) {
        report.violate(
          "Q5",
          `task ${task}: fence ${next.run.fence} starts ${inMs(latest.protectedTo - next.run.start)} before the lease of ` +
            `fence ${latest.run.fence} can have ended`,
          latest.run.ref,
          next.run.ref,
        );
      } else if (latest !== undefined && next.run.start < latest.end) {
        zombies += 1;
        longest = Math.max(longest, latest.end - next.run.start);
      }
      if (latest === undefined || next.end > latest.end) latest = next;
    }
  }
  report.figures.set("zombie runs", zombies);
  report.figures.set("longest zombie time", inMs(longest));
}

/** What comparing the store's clock with the handlers' may be off by. */
const clockToleranceUs = 20_000;

/** Q6: every start of a limited queue has its one ledger entry, every entry its start or a reason for having none. */
export function checkTokens(history: History, report: Report): void {
  const runs = groupBy(history.runs, (run) => `${run.task}\n${run.fence}`);
  const grants = groupBy(history.grants, (grant) => `${grant.scope}\n${grant.task}\n${grant.fence}`);
  for (const [key, same] of runs) {
    const run = same[0] as Run;
    for (const again of same.slice(1))
      report.violate("Q6", `task ${run.task}: fence ${run.fence} starts twice`, run.ref, again.ref);
    const policy = history.policies.queues[run.queue];
    if (policy?.rate != null) checkToken(history, run, { grants: grants.get(`queue\n${key}`), report });
    if (policy?.partition.rate != null)
      checkToken(history, run, { grants: grants.get(`partition\n${key}`), report });
  }
  const excuses = new Excuses(history);
  const forfeits = new Map<string, number>();
  for (const same of grants.values()) {
    const grant = same[0] as Grant;
    report.checked("Q6");
    for (const again of same.slice(1))
      report.violate("Q6", `task ${grant.task}: fence ${grant.fence} is charged twice`, grant.ref, again.ref);
    if (runs.has(`${grant.task}\n${grant.fence}`)) continue;
    const excuse = excuses.of(grant);
    if (excuse === null)
      report.violate(
        "Q6",
        `task ${grant.task}: fence ${grant.fence} was charged and never started, no fault near`,
        grant.ref,
      );
    else forfeits.set(excuse, (forfeits.get(excuse) ?? 0) + 1);
  }
  for (const [excuse, count] of forfeits) report.figures.set(`forfeited grants, ${excuse}`, count);
}

function checkToken(
  history: History,
  run: Run,
  { grants, report }: { grants: readonly Grant[] | undefined; report: Report },
): void {
  const start = run.start + history.wallOffset;
  if (start < history.ledgerFrom) return;
  report.checked("Q6");
  const grant = grants?.[0];
  if (grant === undefined) {
    report.violate("Q6", `task ${run.task}: fence ${run.fence} started without a ledger entry`, run.ref);
    return;
  }
  if (run.startAt !== null && Math.abs(run.startAt - grant.start) >= 1)
    report.violate(
      "Q6",
      `task ${run.task}: told to start at ${run.startAt}, the ledger says ${grant.start}`,
      run.ref,
      grant.ref,
    );
  const early = grant.start - start;
  if (early > clockToleranceUs + history.wallSpread)
    report.violate("Q6", `task ${run.task}: started ${inMs(early)} before its grant`, run.ref, grant.ref);
}

/** Why a grant may have no start: it was given back, its task was cancelled, or a fault was near. */
class Excuses {
  readonly #late: Set<string>;
  readonly #cancelled: Map<string, number>;
  readonly #faults: readonly { from: number; to: number; what: string }[];
  readonly #offset: number;
  readonly #marginUs: number;
  /** Runs that never ended, by partition: their worker died in them. */
  readonly #unended: Map<string, Run[]>;
  /** The partition of each task that ever ran: the ledger of a queue's limit does not name it. */
  readonly #partitions: Map<string, string>;

  constructor(history: History) {
    this.#late = new Set(history.notes.map((note) => `${note.task}\n${note.fence}`));
    this.#cancelled = new Map(history.commands.map((command) => [command.task, command.invoked]));
    const stalls = [...history.processes.values()].flatMap((process) =>
      process.stalls.map((span) => ({ ...span, what: "stall" })),
    );
    this.#faults = [...history.faults, ...stalls];
    this.#offset = history.wallOffset;
    this.#marginUs = 1_000_000;
    this.#partitions = new Map(history.runs.map((run) => [run.task, `${run.queue}\n${run.partition}`]));
    this.#unended = groupBy(
      history.runs.filter((run) => run.end === null),
      (run) => `${run.queue}\n${run.partition}`,
    );
  }

  of(grant: Grant): string | null {
    if (this.#late.has(`${grant.task}\n${grant.fence}`)) return "given back";
    if ((this.#cancelled.get(grant.task) ?? Infinity) + this.#offset <= grant.start + this.#marginUs)
      return "cancelled";
    // Of a serial partition several may be granted in one claim: what waits for a run dies with it, however long that took.
    const before = this.#unended.get(this.#partitions.get(grant.task) ?? "") ?? [];
    if (before.some(({ startAt }) => startAt !== null && startAt >= grant.at && startAt <= grant.start))
      return "behind a run that died";
    // The claim may have been answered late or never, so a fault counts from a second before it to one after its start.
    const from = grant.at - this.#offset - this.#marginUs;
    const to = grant.start - this.#offset + this.#marginUs;
    const fault = this.#faults.find((one) => one.from <= to && one.to >= from && one.what !== "stall");
    if (fault !== undefined) return `near a ${fault.what}`;
    return this.#faults.some((one) => one.from <= to && one.to >= from) ? "near a stall" : null;
  }
}

/** Q7: protected runs at one time, by queue and by partition; at the end no slot without a live run. */
export function checkConcurrency(history: History, lifetimes: Lifetimes, report: Report): void {
  for (const [queue, ofQueue] of groupBy(lifetimes.all, (lifetime) => lifetime.run.queue)) {
    const policy = history.policies.queues[queue];
    if (policy === undefined) continue;
    checkOverlap(`queue ${queue}`, ofQueue, { most: policy.concurrency, report });
    for (const [partition, group] of groupBy(ofQueue, (lifetime) => lifetime.run.partition))
      checkOverlap(`partition ${queue}/${partition}`, group, { most: policy.partition.concurrency, report });
  }
  checkSlots(history, report);
}

type Group = Lifetimes["all"];

function checkOverlap(
  name: string,
  group: Group,
  { most, report }: { most: number | null; report: Report },
): void {
  if (most === null) return;
  report.checked("Q7", group.length);
  const events = group.flatMap((lifetime) =>
    lifetime.protectedTo > lifetime.run.start
      ? [
          { at: lifetime.run.start, by: 1, lifetime },
          { at: lifetime.protectedTo, by: -1, lifetime },
        ]
      : [],
  );
  events.sort((a, b) => a.at - b.at || a.by - b.by);
  let running = 0;
  let last: (typeof events)[0] | undefined;
  for (const event of events) {
    running += event.by;
    if (event.by > 0 && running > most)
      report.violate(
        "Q7",
        `${name}: ${running} run at once, at most ${most}`,
        last?.lifetime.run.ref,
        event.lifetime.run.ref,
      );
    if (event.by > 0) last = event;
  }
}

function checkSlots(history: History, report: Report): void {
  const tasks = new Map(history.tasks.map((task) => [task.id, task]));
  const live = new Map<string, number>();
  for (const run of history.finalRuns) {
    const task = tasks.get(run.task);
    report.checked("Q7");
    if (task === undefined || terminalStates.has(task.state))
      report.violate("Q7", `run of task ${run.task} outlives it (${task?.state ?? "no such task"})`, run.ref);
    const lane = `${task?.queue}\n${task?.partition}`;
    live.set(lane, (live.get(lane) ?? 0) + 1);
  }
  for (const lane of history.lanes) {
    if (lane.running === null) continue;
    report.checked("Q7");
    const runs = live.get(`${lane.queue}\n${lane.partition}`) ?? 0;
    if (runs !== lane.running)
      report.violate(
        "Q7",
        `lane ${lane.queue}/${lane.partition}: ${lane.running} slots in use, ${runs} live runs`,
        lane.ref,
      );
  }
}
