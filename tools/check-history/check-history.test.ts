/** The checker is judged by histories whose verdict is known: honest ones, and ones with a single seeded defect. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checkHistory } from "./check.ts";
import { buildHistory, type Line, MalformedLog, type RawLogs, readLogs } from "./read.ts";
import { formatReport, type Invariant, invariants, type Report } from "./report.ts";
import { type Defect, defects } from "./test/model-store.ts";
import { simulate } from "./test/simulator.ts";

const judge = (logs: RawLogs): Report => checkHistory(buildHistory(logs));

describe("an honest history", () => {
  test.each(Array.from({ length: 20 }, (_, index) => index + 1))("of seed %i is clean", (seed) => {
    const report = judge(simulate(seed));
    expect(report.violations, formatReport(report)).toBe(0);
  });

  test("exercises every invariant", () => {
    const report = judge(simulate(1));
    expect(report.unexercised(Object.keys(invariants) as Invariant[])).toEqual([]);
  });
});

describe("a seeded defect is caught by its invariant", () => {
  test.each(Object.entries(defects) as [Defect, Invariant][])("%s: %s", (defect, invariant) => {
    const caught = [101, 102, 103, 104, 105, 106].some(
      (seed) => (judge(simulate(seed, defect)).verdicts.get(invariant)?.count ?? 0) > 0,
    );
    expect(caught).toBe(true);
  });
});

function write(logs: RawLogs): string {
  const directory = mkdtempSync(join(tmpdir(), "check-history-"));
  const text = (lines: readonly Line[]): string =>
    lines.map((line) => `${JSON.stringify(line.value)}\n`).join("");
  writeFileSync(join(directory, "policies.json"), JSON.stringify(logs.policies));
  writeFileSync(join(directory, "client.jsonl"), text(logs.client));
  writeFileSync(join(directory, "effects.jsonl"), text(logs.effects));
  writeFileSync(join(directory, "faults.jsonl"), text(logs.faults));
  writeFileSync(join(directory, "export.jsonl"), text(logs.export));
  return directory;
}

function runCommand(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(import.meta.dirname, "main.ts"), ...args],
    {
      encoding: "utf8",
    },
  );
  return { status, output: stdout + stderr };
}

describe("the command", () => {
  test("exits 0 for a clean directory and says what it looked at", () => {
    const directory = write(simulate(3));
    const { status, output } = runCommand(directory, "--require", "all");
    rmSync(directory, { recursive: true });
    expect(output).toContain("clean");
    expect(status).toBe(0);
  });

  test("exits 1 for a violation and names the log lines", () => {
    const directory = write(simulate(101, "window off by one"));
    const { status, output } = runCommand(directory, "--json");
    rmSync(directory, { recursive: true });
    const verdict = JSON.parse(output) as { invariants: Record<string, { examples: { refs: string[] }[] }> };
    expect(verdict.invariants["RL1"]?.examples[0]?.refs[0]).toMatch(/^export\.jsonl:\d+$/);
    expect(status).toBe(1);
  });

  test("exits 1 if a required check had nothing to look at", () => {
    const logs = simulate(3);
    const directory = write({
      ...logs,
      export: logs.export.filter((line) => line.value["table"] !== "counts"),
    });
    const { status } = runCommand(directory, "--require", "Q22");
    const withLanes = write({
      ...logs,
      export: logs.export.filter((line) => line.value["table"] === "tasks"),
    });
    const without = runCommand(withLanes, "--require", "Q22");
    for (const one of [directory, withLanes]) rmSync(one, { recursive: true });
    expect([status, without.status]).toEqual([0, 1]);
  });

  test("exits 2 for a directory without logs", () => {
    expect(runCommand(join(tmpdir(), "no-such-history")).status).toBe(2);
  });
});

describe("reading", () => {
  const logs = simulate(5);

  test("forgives a last line cut short by a kill, and no other", () => {
    const directory = write(logs);
    const file = join(directory, "effects.jsonl");
    const whole = readLogs(directory).effects.length;
    writeFileSync(file, `${logs.effects.map((line) => JSON.stringify(line.value)).join("\n")}\n{"kind":"sta`);
    expect(readLogs(directory).effects).toHaveLength(whole);
    writeFileSync(file, `{"kind":"sta\n${JSON.stringify(logs.effects[0]?.value)}\n`);
    expect(() => readLogs(directory)).toThrow(MalformedLog);
    rmSync(directory, { recursive: true });
  });

  test("refuses a line of a kind it does not know", () => {
    const line: Line = { ref: "effects.jsonl:1", value: { kind: "begin", process: "w", mono: 1 } };
    expect(() => buildHistory({ ...logs, effects: [line] })).toThrow(
      /effects\.jsonl:1: unknown kind "begin"/,
    );
  });

  test("refuses an end without a start", () => {
    const value = { kind: "end", process: "w", mono: 1, task: "t", fence: 1, outcome: "ok" };
    expect(() => buildHistory({ ...logs, effects: [{ ref: "e:1", value }] })).toThrow(/no start/);
  });
});
