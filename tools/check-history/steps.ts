/**
 * Q15: a step has at most one output; once it is recorded its body never runs again, and every replay gives the same
 * bytes. A zombie (a run beyond its lease) may still enter a body, since no store can stop a process between its look
 * and its act; that is listed apart. It may not record or receive another value.
 */
import type { FinalStep, History, StepEvent } from "./history.ts";
import type { Lifetimes } from "./lifetimes.ts";
import type { Report } from "./report.ts";
import { groupBy } from "./spans.ts";

/** Judges every step of every task. */
export function checkSteps(history: History, lifetimes: Lifetimes, report: Report): void {
  const recorded = groupBy(history.finalSteps, (step) => `${step.task}\n${step.step}`);
  for (const copies of recorded.values()) {
    const first = copies[0] as FinalStep;
    report.checked("Q15");
    if (copies.length > 1)
      report.violate(
        "Q15",
        `task ${first.task}: step ${first.step} has ${copies.length} outputs`,
        ...copies.map((copy) => copy.ref),
      );
  }
  const protectedTo = new Map(
    lifetimes.all.map((lifetime) => [`${lifetime.run.task}\n${lifetime.run.fence}`, lifetime.protectedTo]),
  );
  for (const [key, events] of groupBy(history.steps, (step) => `${step.task}\n${step.step}`)) {
    events.sort((a, b) => a.mono - b.mono);
    checkValues(events, recorded.get(key)?.[0], report);
    checkBodies(events, { record: recorded.get(key)?.[0], protectedTo, report });
  }
}

function checkValues(events: readonly StepEvent[], record: FinalStep | undefined, report: Report): void {
  let first: StepEvent | undefined;
  for (const event of events) {
    if (event.kind !== "step") continue;
    report.checked("Q15");
    first ??= event;
    if (event.value !== first.value)
      report.violate("Q15", `task ${event.task}: step ${event.step} gave two values`, first.ref, event.ref);
    if (record !== undefined && record.output !== null && record.output !== event.value)
      report.violate(
        "Q15",
        `task ${event.task}: step ${event.step} gave another value than it recorded`,
        event.ref,
        record.ref,
      );
  }
}

function checkBodies(
  events: readonly StepEvent[],
  {
    record,
    protectedTo,
    report,
  }: { record: FinalStep | undefined; protectedTo: ReadonlyMap<string, number>; report: Report },
): void {
  const given = events.find((event) => event.kind === "step");
  for (const body of events) {
    if (body.kind !== "body") continue;
    report.checked("Q15");
    const text = `task ${body.task}: the body of step ${body.step} ran again in fence ${body.fence}`;
    if (record?.fence != null && body.fence > record.fence)
      report.violate("Q15", `${text}, recorded by fence ${record.fence}`, body.ref, record.ref);
    else if (given !== undefined && body.mono > given.mono) {
      const lease = protectedTo.get(`${body.task}\n${body.fence}`) ?? Number.POSITIVE_INFINITY;
      if (body.mono > lease) report.setApart("Q15", "a zombie entered a body", text, given.ref, body.ref);
      else report.violate("Q15", `${text}, after its value was given`, given.ref, body.ref);
    }
  }
}
