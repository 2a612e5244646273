/**
 * Q8: in a partition of concurrency 1 first starts follow the order of enqueues. Clients know only real time, so the
 * rule is: if one enqueue came back before another was called, its tasks start first; and tasks of one bulk call start
 * in the order of its list. A start order breaks it exactly if some task starts after one whose call began after its
 * own call came back: with tasks sorted by first start, the greatest call time so far tells.
 */
import type { EnqueueCall, EnqueueItem, History } from "./history.ts";
import type { Lifetimes } from "./lifetimes.ts";
import type { Report } from "./report.ts";
import { groupBy } from "./spans.ts";

interface Entry {
  readonly call: EnqueueCall;
  readonly item: EnqueueItem;
  readonly index: number;
  readonly start: number;
  readonly startRef: string;
}

/** Judges the order of first starts in every partition that runs one task at a time. */
export function checkOrder(history: History, lifetimes: Lifetimes, report: Report): void {
  const taskOf = new Map(history.tasks.map((task) => [task.item, task.id]));
  const entries: Entry[] = [];
  const seen = new Set<string>();
  for (const call of history.enqueues) {
    if (call.outcome === "fail") continue;
    for (const [index, item] of call.items.entries()) {
      const policy = history.policies.queues[item.queue];
      if (policy?.partition.concurrency !== 1 && policy?.concurrency !== 1) continue;
      const task = item.task ?? taskOf.get(item.item);
      const first = task === undefined ? undefined : lifetimes.byTask.get(task)?.[0]?.run;
      if (first === undefined || item.duplicate || item.delayMs > 0) continue;
      // A doubtful call that was made again: only its first call bounds when the task can have come in.
      if (seen.has(item.item)) continue;
      seen.add(item.item);
      entries.push({ call, item, index, start: first.start, startRef: first.ref });
    }
  }
  for (const lane of groupBy(entries, ({ item }) => `${item.queue}\n${item.partition}`).values())
    checkLane(lane, report);
}

function checkLane(lane: Entry[], report: Report): void {
  lane.sort((a, b) => a.start - b.start);
  report.checked("Q8", lane.length);
  let latest: Entry | undefined;
  const furthest = new Map<string, Entry>();
  for (const entry of lane) {
    const { queue, partition, item } = entry.item;
    if (latest !== undefined && latest.call.invoked > entry.call.returned)
      report.violate(
        "Q8",
        `${queue}/${partition}: ${latest.item.item} starts before ${item}, though enqueued after it`,
        entry.call.ref,
        latest.call.ref,
        latest.startRef,
        entry.startRef,
      );
    if (latest === undefined || entry.call.invoked > latest.call.invoked) latest = entry;
    const ahead = furthest.get(entry.call.id);
    if (ahead !== undefined && ahead.index > entry.index)
      report.violate(
        "Q8",
        `${queue}/${partition}: ${ahead.item.item} starts before ${item} of the same call`,
        entry.call.ref,
        ahead.startRef,
        entry.startRef,
      );
    else furthest.set(entry.call.id, entry);
  }
}
