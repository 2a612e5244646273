/**
 * The whole demo, shortened by `--requests`, as a person runs it: processes, real queues, the stand-in API.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const logPattern = /^\[queue_(\w+) *\] \[(AWS {2}|AZURE|GCP {2})\]\[\1 *\] Request #\d - {1,3}\d+\.\d\ds/;

interface Report {
  readonly held: boolean;
  readonly failures: readonly string[];
  readonly expected: number;
  readonly done_before: number;
  readonly distinct: number;
  readonly refused: number;
  readonly repeated: number;
  readonly notes: readonly string[];
  readonly meter_stalls: { readonly count: number };
  readonly kills: readonly { readonly in_flight: readonly unknown[] }[];
  readonly queues: readonly {
    readonly order_kept: boolean;
    readonly worst_window: number;
    readonly limit: number;
    readonly refused: number;
    readonly achieved_percent: number | null;
  }[];
}

interface Run {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly lines: readonly string[];
}

/** Runs the demo; `onLine` sees each line of standard error and may kill the process. */
async function demo(
  args: readonly string[],
  onLine: (line: string, kill: () => void) => void = () => {},
  environment: Record<string, string> = {},
): Promise<Run> {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, [...process.execArgv, main, ...args], {
    env: { ...inherited, TMPDIR: directory, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: string[] = [];
  let stdout = "";
  child.stdout.on("data", (data: Buffer) => {
    stdout += data.toString();
  });
  createInterface({ input: child.stderr }).on("line", (line) => {
    lines.push(line);
    onLine(line, () => child.kill("SIGKILL"));
  });
  const [exitCode] = (await once(child, "close")) as [number | null];
  return { exitCode, stdout, lines };
}

function reportOf(run: Run): Report {
  expect(run.stdout, run.lines.join("\n")).not.toBe("");
  return JSON.parse(run.stdout) as Report;
}

/**
 * Everything the demo promises. A call that is held up on its way for longer than the guard can be refused, and then
 * its retry comes out of order: that is the machine's doing, and the stalls of the meter, another process, show it.
 */
function expectHeld(run: Run): Report {
  const report = reportOf(run);
  expect(report.distinct).toBe(report.expected - report.done_before);
  if (report.meter_stalls.count === 0) expect(report.failures).toEqual([]);
  for (const queue of report.queues) {
    expect(queue.worst_window).toBeLessThanOrEqual(queue.limit + queue.refused);
    if (report.refused === 0) expect(queue.order_kept).toBe(true);
    // Fewer gaps than are judged: a lost start would show as 83 % at most.
    if (report.notes.length === 0 && queue.achieved_percent !== null && report.meter_stalls.count === 0) {
      expect(queue.achieved_percent).toBeGreaterThan(88);
    }
  }
  expect(run.exitCode).toBe(report.held ? 0 : 1);
  return report;
}

// The demo's own temporary directories go here too: it keeps those of a run that did not hold.
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sluice-demo-test-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("demo on the embedded database", () => {
  it("makes every request once, and logs each as it reached the API", async () => {
    const run = await demo(["--requests", "1", "--json"]);
    expect(expectHeld(run)).toMatchObject({ expected: 9, distinct: 9, repeated: 0 });
    expect(run.lines.filter((line) => logPattern.test(line))).toHaveLength(9);
  });

  it("finishes the same work after three kills of its worker, one of them in the middle of a call", async () => {
    const run = await demo(["--requests", "2", "--json", "--crash"]);
    const report = expectHeld(run);
    expect(report).toMatchObject({ expected: 18, distinct: 18 });
    expect(report.kills).toHaveLength(3);
    expect(report.kills[1]?.in_flight).toHaveLength(1);
    expect(report.repeated).toBeGreaterThanOrEqual(1);
  });

  it("finishes the same work when the whole demo is killed and started again on the same directory", async () => {
    const args = ["--requests", "2", "--json", "--data-dir", join(directory, "data")];
    let logged = 0;
    const killed = await demo(args, (line, kill) => {
      if (logPattern.test(line)) logged += 1;
      if (logged === 5) kill();
    });
    expect(killed).toMatchObject({ exitCode: null, stdout: "" });
    const report = expectHeld(await demo(args));
    // The fifth was in flight or just answered; whether it was recorded is the database's word.
    expect(report.done_before).toBeGreaterThanOrEqual(4);
    expect(report.expected).toBe(18);
    const rest = await demo(args);
    expect(reportOf(rest)).toMatchObject({ held: true, done_before: 18, distinct: 0 });
    expect(rest.exitCode).toBe(0);
  });
});

describe("demo on PostgreSQL", () => {
  it("shares the budget over two worker processes", async () => {
    const run = await demo(["--requests", "1", "--json", "--workers", "2"], undefined, {
      DATABASE_URL: inject("databaseUrl"),
    });
    expect(expectHeld(run)).toMatchObject({
      expected: 9,
      distinct: 9,
      repeated: 0,
      workers: 2,
      engine: "postgres",
    });
  });
});

describe("demo command", () => {
  it("says what to set when several workers have no server, with exit code 2", async () => {
    const run = await demo(["--workers", "3"]);
    expect(run.exitCode).toBe(2);
    expect(run.lines).toEqual([
      expect.stringMatching(/^invalid_option: --workers 3 needs PostgreSQL.*DATABASE_URL/),
    ]);
  });

  it("says in one line that the server cannot be reached, with exit code 1", async () => {
    const run = await demo(["--workers", "2", "--json"], undefined, {
      DATABASE_URL: "postgres://127.0.0.1:1/none",
    });
    expect(run.exitCode).toBe(1);
    expect(run.lines.at(-1)).toMatch(/^store_unavailable: .*; check that the server runs/);
    expect(JSON.parse(run.stdout)).toMatchObject({ held: false });
  });
});
