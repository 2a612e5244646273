/**
 * Q9 and Q10: that things happen. For every start the checker asks since when it could have happened: the task was
 * ready, a slot of its partition free, the partition's last start past. From that wait it takes away what is accounted
 * for: outages, times with no worker running, the queue full, tokens that others took, a slot or a token held by a
 * worker that died with it (at most lease + sweep + D). What is left may be D at most.
 */
import type { EnqueueCall, EnqueueItem, Grant, History, QueuePolicy, Span } from "./history.ts";
import { terminalStates } from "./history.ts";
import type { Lifetime, Lifetimes } from "./lifetimes.ts";
import type { Report } from "./report.ts";
import { countWhere, groupBy, inMs, SpanSet } from "./spans.ts";

interface Scene {
  readonly history: History;
  readonly lifetimes: Lifetimes;
  readonly report: Report;
  readonly unstarted: readonly Grant[];
  readonly recoveryUs: number;
  readonly slackUs: number;
}

/** Judges both invariants. */
export function checkLiveness(history: History, lifetimes: Lifetimes, report: Report): void {
  const { leaseMs, sweepMs, slackMs } = history.policies;
  const started = new Set(history.runs.map((run) => `${run.task}\n${run.fence}`));
  const scene: Scene = {
    history,
    lifetimes,
    report,
    unstarted: history.grants.filter((grant) => !started.has(`${grant.task}\n${grant.fence}`)),
    recoveryUs: (leaseMs + sweepMs + slackMs) * 1000,
    slackUs: slackMs * 1000,
  };
  const queues = groupBy(lifetimes.all, (lifetime) => lifetime.run.queue);
  for (const [name, policy] of Object.entries(history.policies.queues)) {
    const runs = queues.get(name) ?? [];
    const queue = new QueueScene(scene, { name, policy, runs });
    queue.checkPartitions();
    queue.checkRecovery();
  }
  checkRestarts(scene);
}

/** One queue with what its waits may be excused by. */
class QueueScene {
  readonly #scene: Scene;
  readonly #name: string;
  readonly #policy: QueuePolicy;
  readonly #runs: readonly Lifetime[];
  readonly #spacingUs: number;
  readonly #partitionSpacingUs: number;
  readonly #startTimes: readonly number[];
  readonly #lostTokens: readonly number[];
  readonly #full: readonly Span[];
  readonly #fleetFaults: readonly Span[];

  constructor(scene: Scene, queue: { name: string; policy: QueuePolicy; runs: readonly Lifetime[] }) {
    this.#scene = scene;
    this.#name = queue.name;
    this.#policy = queue.policy;
    this.#runs = queue.runs;
    const spacing = (rate: QueuePolicy["rate"]): number =>
      rate === null ? 0 : (rate.periodUs + rate.guardUs) / rate.limit;
    this.#spacingUs = spacing(queue.policy.rate);
    this.#partitionSpacingUs = spacing(queue.policy.partition.rate);
    this.#startTimes = queue.runs.map((lifetime) => lifetime.run.start);
    const { wallOffset } = scene.history;
    this.#lostTokens = scene.unstarted
      .filter((grant) => grant.queue === queue.name && grant.scope === "queue")
      .map((grant) => grant.start - wallOffset)
      .sort((a, b) => a - b);
    // A grant that was never started holds its slot until its worker's lease is over.
    const lost = scene.unstarted
      .filter((grant) => grant.queue === queue.name)
      .map((grant) => ({ from: grant.at - wallOffset, to: grant.start - wallOffset + scene.recoveryUs }));
    this.#full = fullSpans([...slotsOf(queue.runs), ...lost], queue.policy.concurrency);
    // Without a ledger the claims of a killed or stopped worker cannot be told, so its fault excuses the whole queue.
    const ledgered = queue.policy.rate !== null || queue.policy.partition.rate !== null;
    this.#fleetFaults = ledgered
      ? []
      : scene.history.faults
          .filter((fault) => fault.what !== "restart")
          .map((fault) => ({ from: fault.from, to: fault.to + scene.recoveryUs }));
  }

  /** Q9. */
  checkPartitions(): void {
    const lanes = groupBy(this.#runs, (lifetime) => lifetime.run.partition);
    const ready = this.#readyTimes();
    const partitionOf = new Map(this.#scene.history.tasks.map((task) => [task.id, task.partition]));
    const lost = groupBy(
      this.#scene.unstarted.filter((grant) => grant.queue === this.#name),
      (grant) => partitionOf.get(grant.task) ?? "",
    );
    const waiting = groupBy(
      this.#scene.history.tasks.filter(
        (task) => task.queue === this.#name && !terminalStates.has(task.state),
      ),
      (task) => task.partition,
    );
    for (const partition of new Set([...lanes.keys(), ...waiting.keys()])) {
      const runs = lanes.get(partition) ?? [];
      const cover = this.#coverOf(lost.get(partition) ?? []);
      const free = freeSince(runs, this.#policy.partition.concurrency);
      for (const [index, lifetime] of runs.entries()) {
        const readyAt = this.#readyFor(lifetime, ready);
        if (readyAt === null) continue;
        const since = Math.max(readyAt, runs[index - 1]?.run.start ?? 0, free.before[index] as number);
        this.#judge({ since, start: lifetime.run.start, cover, what: partition, ref: lifetime.run.ref });
      }
      const heads = (waiting.get(partition) ?? []).flatMap((task) => {
        const last = this.#scene.lifetimes.byTask.get(task.id)?.at(-1);
        const at = last === undefined ? ready.get(task.id) : this.#readyAgain(last);
        return at === undefined ? [] : [{ at, ref: task.ref }];
      });
      const head = heads.sort((a, b) => a.at - b.at)[0];
      if (head === undefined) continue;
      const since = Math.max(head.at, runs.at(-1)?.run.start ?? 0, free.atEnd);
      this.#judge({ since, start: this.#scene.history.until, cover, what: partition, ref: head.ref });
    }
  }

  /** Q10, first half: runs whose process died start again in time. */
  checkRecovery(): void {
    const { history, lifetimes, report, recoveryUs } = this.#scene;
    const states = new Map(history.tasks.map((task) => [task.id, task.state]));
    const ofTask = groupBy(
      this.#scene.unstarted.filter((grant) => grant.queue === this.#name),
      (grant) => grant.task,
    );
    // Time in which other tasks hold all slots of its partition is not its recovery's; a dead run holds none here.
    const lanes = new Map(
      [...groupBy(this.#runs, (lifetime) => lifetime.run.partition)].map(([partition, runs]) => [
        partition,
        fullSpans(
          runs.map((other) => ({ from: other.run.start, to: other.died ? other.end : other.slotFreeBy })),
          this.#policy.partition.concurrency,
        ),
      ]),
    );
    for (const lifetime of this.#runs) {
      if (!lifetime.died) continue;
      const runs = lifetimes.byTask.get(lifetime.run.task) as readonly Lifetime[];
      const next = runs[runs.indexOf(lifetime) + 1];
      if (next === undefined && terminalStates.has(states.get(lifetime.run.task) ?? "")) continue;
      report.checked("Q10");
      const died = history.processes.get(lifetime.run.process)?.diedBy as number;
      const start = next?.run.start ?? history.until;
      const cover = this.#coverOf(ofTask.get(lifetime.run.task) ?? [], {
        process: lifetime.run.process,
        busy: lanes.get(lifetime.run.partition) as readonly Span[],
      });
      const took = cover.uncoveredIn(died, start);
      const allowed = recoveryUs + lanes.size * this.#spacingUs + this.#partitionSpacingUs;
      if (took > allowed)
        report.violate(
          "Q10",
          `task ${lifetime.run.task} of ${this.#name}: killed, ${next === undefined ? "not started again for" : "started again after"} ` +
            `${inMs(took)} (${inMs(start - died)} with all faults), at most ${inMs(allowed)}`,
          lifetime.run.ref,
          next?.run.ref,
        );
    }
  }

  #judge(wait: { since: number; start: number; cover: SpanSet; what: string; ref: string }): void {
    const { report, slackUs } = this.#scene;
    report.checked("Q9");
    const took = wait.cover.uncoveredIn(wait.since, wait.start);
    if (took <= slackUs) return;
    const between = (list: readonly number[]): number =>
      countWhere(list, (time) => time < wait.start) - countWhere(list, (time) => time < wait.since);
    const tokens = between(this.#startTimes) + between(this.#lostTokens) + 1;
    const allowed = slackUs + tokens * this.#spacingUs + this.#partitionSpacingUs;
    if (took > allowed)
      report.violate(
        "Q9",
        `${this.#name}/${wait.what}: ready work, a free slot and no start for ${inMs(took)}, at most ${inMs(allowed)}`,
        wait.ref,
      );
  }

  /** Spans that excuse a wait, given the grants that were lost to it. A process's own death never excuses itself. */
  #coverOf(lost: readonly Grant[], own?: { process: string; busy: readonly Span[] }): SpanSet {
    const { lifetimes, history, recoveryUs } = this.#scene;
    const held = lost.map((grant) => ({
      from: grant.at - history.wallOffset,
      to: grant.start - history.wallOffset + recoveryUs,
    }));
    const death = history.faults.find((fault) => fault.who === own?.process && fault.what === "kill");
    const fleet = this.#fleetFaults.filter((span) => span.from !== death?.from);
    return new SpanSet([
      ...lifetimes.nothingRuns.spans,
      ...this.#full,
      ...(own?.busy ?? []),
      ...held,
      ...fleet,
    ]);
  }

  #readyTimes(): Map<string, number> {
    const ready = new Map<string, number>();
    const add = (call: EnqueueCall, item: EnqueueItem): void => {
      if (item.task === null || item.queue !== this.#name) return;
      const at = call.returned + item.delayMs * 1000;
      ready.set(item.task, Math.min(at, ready.get(item.task) ?? Number.POSITIVE_INFINITY));
    };
    for (const call of this.#scene.history.enqueues) for (const item of call.items) add(call, item);
    return ready;
  }

  #readyFor(lifetime: Lifetime, ready: ReadonlyMap<string, number>): number | null {
    const runs = this.#scene.lifetimes.byTask.get(lifetime.run.task) as readonly Lifetime[];
    const before = runs[runs.indexOf(lifetime) - 1];
    return before === undefined ? (ready.get(lifetime.run.task) ?? null) : this.#readyAgain(before);
  }

  #readyAgain(before: Lifetime): number {
    if (before.run.outcome === "error" && before.protectedTo === before.end)
      return before.end + this.#policy.backoffMaxMs * 1000;
    return before.end + this.#scene.recoveryUs;
  }
}

/** The time each run surely held or may have held its slot. */
function slotsOf(runs: readonly Lifetime[]): Span[] {
  return runs.map((lifetime) => ({ from: lifetime.run.start, to: lifetime.slotFreeBy }));
}

/** Spans during which `most` slots were taken. */
function fullSpans(slots: readonly Span[], most: number | null): Span[] {
  if (most === null) return [];
  const spans: Span[] = [];
  let taken = 0;
  let since = 0;
  for (const event of slotEvents(slots)) {
    const before = taken;
    taken += event.by;
    if (before < most && taken >= most) since = event.at;
    if (before >= most && taken < most) spans.push({ from: since, to: event.at });
  }
  if (taken >= most) spans.push({ from: since, to: Number.MAX_SAFE_INTEGER });
  return spans;
}

function slotEvents(slots: readonly Span[]): { at: number; by: number; index: number }[] {
  const events = slots.flatMap((slot, index) => [
    { at: slot.from, by: 1, index },
    { at: Math.max(slot.from, slot.to), by: -1, index },
  ]);
  // At equal times slots are given back first, so that a start right after an end finds its slot free only just then.
  return events.sort((a, b) => a.at - b.at || a.by - b.by);
}

/** For every run of a partition, since when a slot was free just before it; and since when one is at the end. */
function freeSince(
  runs: readonly Lifetime[],
  slots: number | null,
): { readonly before: readonly number[]; readonly atEnd: number } {
  const before = new Array<number>(runs.length).fill(0);
  if (slots === null) return { before, atEnd: 0 };
  let taken = 0;
  let since = 0;
  for (const event of slotEvents(slotsOf(runs))) {
    if (event.by > 0) before[event.index] = taken >= slots ? event.at : since;
    taken += event.by;
    if (event.by < 0 && taken === slots - 1) since = event.at;
  }
  return { before, atEnd: taken >= slots ? Number.POSITIVE_INFINITY : since };
}

/** Q10, second half: work goes on after the database is back, and no process had to be replaced. */
function checkRestarts(scene: Scene): void {
  const { history, lifetimes, report, slackUs } = scene;
  const starts = lifetimes.all.map((lifetime) => lifetime.run.start);
  const spacing = Math.max(
    0,
    ...Object.values(history.policies.queues).map((queue) =>
      queue.rate === null ? 0 : (queue.rate.periodUs + queue.rate.guardUs) / queue.rate.limit,
    ),
  );
  const acknowledged = history.enqueues
    .filter((call) => call.outcome === "ok")
    .map((call) => call.returned)
    .sort((a, b) => a - b);
  const lastStart = starts.at(-1) ?? 0;
  for (const fault of history.faults) {
    if (fault.what === "exit")
      report.violate(
        "Q10",
        `${fault.who} ended by itself; no restart of any process may be needed`,
        fault.ref,
      );
    if (fault.what !== "restart" || fault.to > lastStart || (acknowledged[0] ?? Infinity) > fault.from)
      continue;
    report.checked("Q10");
    const next = starts[countWhere(starts, (start) => start < fault.to)] as number;
    const took = lifetimes.nothingRuns.uncoveredIn(fault.to, next);
    if (took > slackUs + spacing)
      report.violate("Q10", `no start for ${inMs(next - fault.to)} after PostgreSQL was back`, fault.ref);
  }
}
