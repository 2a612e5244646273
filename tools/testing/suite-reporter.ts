/**
 * The end of a test run: each suite's counts, every skipped test with its reason, and as the very last line
 * `N passed, N failed, N skipped`. A skip that gives no reason fails the run: nobody could tell whether it still holds.
 */
import type { Reporter, TestModule, Vitest } from "vitest/node";

/** What became of a suite's tests. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** A test that did not run. */
export interface Skip {
  readonly name: string;
  readonly reason: string | undefined;
}

/** The lines to print for a run. */
export function summaryLines(suites: ReadonlyMap<string, Counts>, skips: readonly Skip[]): string[] {
  const lines = ["", "Suites:"];
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, counts] of suites) {
    lines.push(`  ${name.padEnd(12)} ${describeCounts(counts)}`);
    for (const key of ["passed", "failed", "skipped"] as const) total[key] += counts[key];
  }
  if (skips.length > 0) {
    lines.push("", `!!! ${skips.length} ${skips.length === 1 ? "TEST WAS" : "TESTS WERE"} SKIPPED:`);
    for (const { name, reason } of skips)
      lines.push(`!!!   ${name}: ${reason ?? "NO REASON GIVEN (this fails the run)"}`);
  }
  return [...lines, "", describeCounts(total)];
}

function describeCounts({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** vitest reporter; see the module's header. */
export default class SuiteReporter implements Reporter {
  #vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const suites = new Map<string, Counts>();
    const order = [...modules].sort((a, b) => groupOrder(a) - groupOrder(b));
    const skips: Skip[] = [];
    // With `-t pattern` vitest skips whatever was not asked for; such tests are neither run nor skipped.
    const picked = this.#vitest?.getGlobalTestNamePattern() !== undefined;
    for (const module of order) {
      const name = module.project.name;
      const counts = suites.get(name) ?? { passed: 0, failed: 0, skipped: 0 };
      suites.set(name, counts);
      count(module, counts, skips, picked);
    }
    if (unhandled.length > 0) suites.set("(unhandled)", { passed: 0, failed: unhandled.length, skipped: 0 });
    if (skips.some((skip) => skip.reason === undefined)) process.exitCode = 1;
    // At exit, because the default reporter prints the failures' details after this event.
    const summary = `${summaryLines(suites, skips).join("\n")}\n`;
    if (this.#vitest?.config.watch) process.stdout.write(summary);
    else process.once("exit", () => process.stdout.write(summary));
  }
}

function groupOrder(module: TestModule): number {
  return module.project.config.sequence.groupOrder;
}

function count(module: TestModule, counts: Counts, skips: Skip[], picked: boolean): void {
  let failedTests = 0;
  for (const test of module.children.allTests()) {
    const result = test.result();
    if (result.state === "passed") counts.passed++;
    else if (result.state !== "skipped") failedTests++;
    else if (!picked || result.note !== undefined) {
      counts.skipped++;
      skips.push({ name: `${module.relativeModuleId} > ${test.fullName}`, reason: result.note });
    }
  }
  // A file that cannot be loaded, or whose hooks fail, has failed even when no test of it has.
  counts.failed += failedTests === 0 && !module.ok() ? 1 : failedTests;
}
