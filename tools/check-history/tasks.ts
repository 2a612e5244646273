/** Q1 durable enqueue, Q2 every task ends, Q3 one completion, Q12 monotone states, Q22 accounting. */
import type { EnqueueCall, EnqueueItem, FinalTask, History, Observation } from "./history.ts";
import { stateGraph, terminalStates } from "./history.ts";
import type { Lifetimes } from "./lifetimes.ts";
import type { Report } from "./report.ts";
import { groupBy } from "./spans.ts";

/** Q1: what was acknowledged is there, what failed is not, what is doubtful is there at most once and whole. */
export function checkEnqueues(history: History, report: Report): void {
  const byId = new Map(history.tasks.map((task) => [task.id, task]));
  const byItem = groupBy(
    history.tasks.filter((task) => task.item !== null),
    (task) => task.item as string,
  );
  const pruned = new Set(history.counts.filter((counts) => counts.deleted > 0).map((counts) => counts.queue));
  const known = new Set<string>();
  const possible = new Set<string>();
  for (const call of history.enqueues) {
    for (const item of call.items) {
      known.add(item.item);
      if (call.outcome !== "fail") possible.add(item.item);
      report.checked("Q1");
      if (call.outcome === "ok" && !pruned.has(item.queue)) checkAcknowledged(call, item, { byId, report });
    }
    if (call.outcome === "unknown" && call.items.length > 1) checkWhole(call, byItem, report);
  }
  for (const [item, copies] of byItem) {
    if (copies.length > 1)
      report.violate("Q1", `${item} is there ${copies.length} times`, ...copies.map((copy) => copy.ref));
    const first = copies[0] as FinalTask;
    if (history.children.has(item)) continue;
    if (!known.has(item)) report.violate("Q1", `task ${first.id}: nobody enqueued ${item}`, first.ref);
    else if (!possible.has(item))
      report.violate("Q1", `task ${first.id}: every enqueue of ${item} failed`, first.ref);
  }
  checkKeys(history, byItem, report);
  for (const [item, { task, ref }] of history.children) {
    report.checked("Q1");
    if (task !== null && !byId.has(task))
      report.violate("Q1", `${item}: a handler was answered with task ${task}, which is gone`, ref);
  }
}

function checkAcknowledged(
  call: EnqueueCall,
  item: EnqueueItem,
  { byId, report }: { byId: ReadonlyMap<string, FinalTask>; report: Report },
): void {
  const task = item.task === null ? undefined : byId.get(item.task);
  if (task === undefined) {
    report.violate("Q1", `${item.item}: acknowledged as task ${item.task}, which is gone`, call.ref);
    return;
  }
  if (task.queue !== item.queue || task.partition !== item.partition)
    report.violate("Q1", `${item.item}: asked for ${item.queue}/${item.partition}`, call.ref, task.ref);
  if (!item.duplicate && item.key === null && task.item !== null && task.item !== item.item)
    report.violate(
      "Q1",
      `${item.item}: acknowledged as task ${task.id}, which is ${task.item}`,
      call.ref,
      task.ref,
    );
}

/** A doubtful bulk enqueue is there whole or not at all. */
function checkWhole(call: EnqueueCall, byItem: ReadonlyMap<string, FinalTask[]>, report: Report): void {
  const present = call.items.filter((item) => byItem.has(item.item)).length;
  const keyed = call.items.some((item) => item.key !== null);
  if (present !== 0 && present !== call.items.length && !keyed)
    report.violate("Q1", `${call.id}: ${present} of ${call.items.length} tasks of one call`, call.ref);
}

/** All calls with one idempotency key made one task, and every answer names it. */
function checkKeys(history: History, byItem: ReadonlyMap<string, FinalTask[]>, report: Report): void {
  const keyed = history.enqueues.flatMap((call) =>
    call.items.filter((item) => item.key !== null).map((item) => ({ call, item })),
  );
  for (const [key, same] of groupBy(keyed, ({ item }) => `${item.queue} ${item.key}`)) {
    report.checked("Q1");
    const made = new Set(same.flatMap(({ item }) => (byItem.get(item.item) ?? []).map((task) => task.id)));
    const named = new Set(same.flatMap(({ item }) => (item.task === null ? [] : [item.task])));
    const refs = same.map(({ call }) => call.ref);
    if (made.size > 1) report.violate("Q1", `key ${key} made ${made.size} tasks`, ...refs);
    if (named.size > 1) report.violate("Q1", `key ${key} was answered with ${named.size} ids`, ...refs);
  }
}

/** Q2: every task is at rest at the end, and was run unless it was cancelled. */
export function checkEnds(history: History, lifetimes: Lifetimes, report: Report): void {
  for (const task of history.tasks) {
    report.checked("Q2");
    if (!terminalStates.has(task.state))
      report.violate(
        "Q2",
        `task ${task.id} of ${task.queue}/${task.partition} rests in ${task.state}`,
        task.ref,
      );
    else if (task.state === "succeeded" && !lifetimes.byTask.has(task.id))
      report.violate("Q2", `task ${task.id} succeeded without having been run`, task.ref);
  }
}

/** Q3: the outcome is that of the last claim's run, it was final when first seen, and no run starts after it. */
export function checkCompletions(history: History, lifetimes: Lifetimes, report: Report): void {
  const retried = retriedTasks(history);
  const seen = groupBy(
    history.observations.filter((observation) => terminalStates.has(observation.state)),
    (observation) => observation.task,
  );
  const grants = groupBy(history.grants, (grant) => grant.task);
  for (const task of history.tasks) {
    if (!terminalStates.has(task.state) || retried.has(task.id)) continue;
    report.checked("Q3");
    const runs = lifetimes.byTask.get(task.id) ?? [];
    const ledgerFence = Math.max(0, ...(grants.get(task.id) ?? []).map((grant) => grant.fence));
    const lastFence = Math.max(ledgerFence, ...runs.map((lifetime) => lifetime.run.fence));
    if (task.state === "succeeded") checkSuccess(task, { lastFence, lifetimes, report });
    const tolerance = 20_000 + history.wallSpread;
    for (const { run } of runs)
      if (task.finishedAt !== null && run.start + history.wallOffset > task.finishedAt + tolerance)
        report.violate(
          "Q3",
          `task ${task.id}: fence ${run.fence} starts after it was ${task.state}`,
          task.ref,
          run.ref,
        );
    for (const observation of seen.get(task.id) ?? []) {
      if (observation.state !== task.state)
        report.violate(
          "Q3",
          `task ${task.id}: seen ${observation.state}, ends ${task.state}`,
          observation.ref,
          task.ref,
        );
      else if (observation.value !== null && task.result !== null && observation.value !== task.result)
        report.violate(
          "Q3",
          `task ${task.id}: its result changed after it was seen`,
          observation.ref,
          task.ref,
        );
    }
  }
}

function checkSuccess(
  task: FinalTask,
  { lastFence, lifetimes, report }: { lastFence: number; lifetimes: Lifetimes; report: Report },
): void {
  const runs = lifetimes.byTask.get(task.id) ?? [];
  if (task.fence !== null && task.fence !== lastFence)
    report.violate(
      "Q3",
      `task ${task.id}: ends with fence ${task.fence}, its last claim had ${lastFence}`,
      task.ref,
    );
  const winner = runs.find((lifetime) => lifetime.run.fence === lastFence)?.run;
  if (winner === undefined || winner.outcome !== "ok") {
    report.violate(
      "Q3",
      `task ${task.id} succeeded, but the run of its last claim did not`,
      task.ref,
      winner?.ref,
    );
  } else if (task.result !== null && winner.value !== null && task.result !== winner.value) {
    const author = runs.find((lifetime) => lifetime.run.value === task.result)?.run;
    const text = author === undefined ? "no run's" : `that of fence ${author.fence}`;
    report.violate(
      "Q3",
      `task ${task.id}: its result is ${text}, the last claim had ${lastFence}`,
      task.ref,
      winner.endRef,
      author?.endRef,
    );
  }
}

function retriedTasks(history: History): Set<string> {
  return new Set(history.commands.filter((command) => command.op === "retry").map((command) => command.task));
}

const reachable = new Map(Object.keys(stateGraph).map((state) => [state, closure(state)]));

function closure(from: string): Set<string> {
  const found = new Set([from]);
  for (const state of found) for (const next of stateGraph[state] ?? []) found.add(next);
  return found;
}

/** Q12: a reading that began after another came back shows a state the graph leads to from there, and no lower fence. */
export function checkStates(history: History, report: Report): void {
  const retried = retriedTasks(history);
  const readings = groupBy(history.observations, (observation) => observation.task);
  for (const task of history.tasks) {
    if (retried.has(task.id)) continue;
    report.checked("Q12");
    if (!reachable.has(task.state))
      report.violate("Q12", `task ${task.id}: no such state ${task.state}`, task.ref);
    const { enqueuedAt, startedAt, finishedAt } = task;
    if (enqueuedAt !== null && startedAt !== null && enqueuedAt > startedAt)
      report.violate("Q12", `task ${task.id} started before it was enqueued`, task.ref);
    if (startedAt !== null && finishedAt !== null && startedAt > finishedAt)
      report.violate("Q12", `task ${task.id} finished before it started`, task.ref);
    const last: Observation = {
      observer: "export",
      task: task.id,
      invoked: Number.POSITIVE_INFINITY,
      returned: Number.POSITIVE_INFINITY,
      state: task.state,
      fence: task.fence,
      value: null,
      ref: task.ref,
    };
    checkReadings([...(readings.get(task.id) ?? []), last], report);
  }
}

function checkReadings(readings: readonly Observation[], report: Report): void {
  const byInvoke = [...readings].sort((a, b) => a.invoked - b.invoked);
  const byReturn = [...readings].sort((a, b) => a.returned - b.returned);
  let done = 0;
  let latest: Observation | undefined;
  let fence: Observation | undefined;
  for (const reading of byInvoke) {
    for (; (byReturn[done] as Observation).returned < reading.invoked; done += 1) {
      const earlier = byReturn[done] as Observation;
      if (latest === undefined || !reachable.get(earlier.state)?.has(latest.state)) latest = earlier;
      if ((earlier.fence ?? -1) > (fence?.fence ?? -1)) fence = earlier;
    }
    report.checked("Q12");
    if (latest !== undefined && !reachable.get(latest.state)?.has(reading.state))
      report.violate(
        "Q12",
        `task ${reading.task}: ${reading.state} after ${latest.state}`,
        latest.ref,
        reading.ref,
      );
    if (fence !== undefined && reading.fence !== null && reading.fence < (fence.fence as number))
      report.violate(
        "Q12",
        `task ${reading.task}: fence ${reading.fence} read after ${fence.fence}`,
        fence.ref,
        reading.ref,
      );
  }
}

/** Q22: the product's counts are those of the rows, and nothing is left over for tasks at rest. */
export function checkAccounts(history: History, report: Report): void {
  const rows = groupBy(history.tasks, (task) => `${task.queue}\n${task.state}`);
  for (const { queue, counts, ref } of history.counts) {
    for (const [state, count] of Object.entries(counts)) {
      report.checked("Q22");
      const actual = rows.get(`${queue}\n${state}`)?.length ?? 0;
      if (actual !== count)
        report.violate("Q22", `queue ${queue}: ${count} ${state} by its own account, ${actual} rows`, ref);
    }
    const uncounted = [...rows.keys()].filter(
      (key) => key.startsWith(`${queue}\n`) && !((key.split("\n")[1] as string) in counts),
    );
    for (const key of uncounted)
      report.violate("Q22", `queue ${queue}: tasks in ${key.split("\n")[1]} appear in no count`, ref);
  }
  for (const lane of history.lanes) {
    if (lane.waiting === null) continue;
    report.checked("Q22");
    const waiting = (rows.get(`${lane.queue}\nwaiting`) ?? []).filter(
      (task) => task.partition === lane.partition,
    ).length;
    if (waiting !== lane.waiting)
      report.violate(
        "Q22",
        `lane ${lane.queue}/${lane.partition}: ${lane.waiting} waiting, ${waiting} rows`,
        lane.ref,
      );
  }
  const states = new Map(history.tasks.map((task) => [task.id, task.state]));
  for (const timer of history.timers) {
    report.checked("Q22");
    const state = states.get(timer.task);
    if (state === undefined || terminalStates.has(state))
      report.violate("Q22", `a timer is left for task ${timer.task} (${state ?? "no such task"})`, timer.ref);
  }
}
