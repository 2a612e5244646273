/**
 * What a check found: per invariant how much was looked at, what was wrong, and what is listed apart. A check that
 * looked at nothing is not a pass; `required` names those whose emptiness counts as a failure.
 */

/** The invariants in the order of the table; names as in the reliability notes. */
export const invariants = {
  RL1: "at most N starts in any window of P, in the ledger and in the handlers",
  RL1b: "at most burst + rate x time between any two starts, in the ledger",
  Q1: "an acknowledged enqueue is never lost, a doubtful one appears at most once",
  Q2: "every acknowledged task comes to an end",
  Q3: "one completion a task, made by the holder of its last claim",
  Q4: "fences only rise",
  Q5: "runs of a task overlap only after a lease ran out",
  Q6: "one token a start, one start a token",
  Q7: "concurrency of queue and partition, slots equal live leases",
  Q8: "first starts follow the order of enqueues in a partition of concurrency 1",
  Q9: "ready work, a token and a free worker: a start soon follows",
  Q10: "work of a killed worker starts again in time, and after a restart of the database",
  Q12: "states move along the graph, and no reading is older than one before it",
  Q15: "a step has one output, its body never runs again once that is recorded",
  Q22: "counts by state add up",
} as const;

/** The short name of an invariant. */
export type Invariant = keyof typeof invariants;

/** One broken promise and the log lines that show it. */
export interface Violation {
  readonly message: string;
  readonly refs: readonly string[];
}

/** The result for one invariant. */
export interface Verdict {
  checked: number;
  count: number;
  /** The first few, in the order found. */
  readonly examples: Violation[];
  /** Listed apart, never hidden: counted and shown, not judged. */
  readonly apart: Map<string, { count: number; first: Violation }>;
}

const examplesKept = 5;

/** Collects verdicts while the checks run. */
export class Report {
  readonly verdicts: Map<Invariant, Verdict> = new Map();
  /** Figures for the reader: name to value. */
  readonly figures: Map<string, number | string> = new Map();

  constructor() {
    for (const name of Object.keys(invariants) as Invariant[])
      this.verdicts.set(name, { checked: 0, count: 0, examples: [], apart: new Map() });
  }

  /** Says that `count` more facts were looked at. */
  checked(invariant: Invariant, count = 1): void {
    this.#verdict(invariant).checked += count;
  }

  /** Records a violation with the lines that show it. */
  violate(invariant: Invariant, message: string, ...refs: (string | null | undefined)[]): void {
    const verdict = this.#verdict(invariant);
    verdict.count += 1;
    if (verdict.examples.length < examplesKept)
      verdict.examples.push({ message, refs: refs.filter((ref) => ref != null) });
  }

  /** Records something that is listed apart and does not count as a violation. */
  setApart(invariant: Invariant, why: string, message: string, ...refs: (string | null | undefined)[]): void {
    const { apart } = this.#verdict(invariant);
    const entry = apart.get(why);
    if (entry === undefined)
      apart.set(why, { count: 1, first: { message, refs: refs.filter((ref) => ref != null) } });
    else entry.count += 1;
  }

  /** All violations together. */
  get violations(): number {
    return [...this.verdicts.values()].reduce((sum, verdict) => sum + verdict.count, 0);
  }

  /** The invariants of `required` for which nothing was looked at. */
  unexercised(required: readonly Invariant[]): Invariant[] {
    return required.filter((name) => this.#verdict(name).checked === 0);
  }

  #verdict(invariant: Invariant): Verdict {
    return this.verdicts.get(invariant) as Verdict;
  }
}

/** The table for people. */
export function formatReport(report: Report): string {
  const lines = ["invariant     checked  violations  what"];
  for (const [name, verdict] of report.verdicts) {
    const checked = verdict.checked === 0 ? "none" : String(verdict.checked);
    lines.push(
      `${name.padEnd(9)} ${checked.padStart(11)} ${String(verdict.count).padStart(11)}  ${invariants[name]}`,
    );
    for (const example of verdict.examples)
      lines.push(`    ! ${example.message}`, `      ${example.refs.join("  ")}`);
    for (const [why, { count, first }] of verdict.apart)
      lines.push(`    . apart, ${why}: ${count}; first: ${first.message} (${first.refs.join(" ")})`);
  }
  lines.push("");
  for (const [name, value] of report.figures) lines.push(`${name}: ${value}`);
  return lines.join("\n");
}

/** The same for machines. */
export function reportToJson(report: Report): unknown {
  return {
    violations: report.violations,
    invariants: Object.fromEntries(
      [...report.verdicts].map(([name, verdict]) => [
        name,
        {
          checked: verdict.checked,
          violations: verdict.count,
          examples: verdict.examples,
          apart: Object.fromEntries(verdict.apart),
        },
      ]),
    ),
    figures: Object.fromEntries(report.figures),
  };
}
