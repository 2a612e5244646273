/** One run under faults, from start to verdict. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkHistory } from "../check-history/check.ts";
import { buildHistory, readLogs } from "../check-history/read.ts";
import { type Invariant, invariants, type Report } from "../check-history/report.ts";
import { type PostgresServer, startPostgres } from "../servers/postgres.ts";
import { openApp } from "./declare.ts";
import { countUnfinished, exportTables } from "./export-tables.ts";
import { Fleet } from "./fleet.ts";
import { LogFile } from "./log-file.ts";
import { Processes } from "./processes.ts";
import { between, seededRandom } from "./random.ts";
import { crashScenario, policiesOf, type Scenario } from "./scenario.ts";

/** A run: what works, on what, and what is done to it. */
export interface RunPlan {
  readonly server: PostgresServer;
  /** Connection string of the database, on that server. */
  readonly database: string;
  readonly scenario: Scenario;
  readonly seed: number;
  readonly workers: number;
  /** Multiplies the loads of the scenario. */
  readonly load: number;
  /** The folder of worker.ts and client.ts, when they are in a copied tree. */
  readonly sources?: string;
  /** Called when the schema is there and nothing works on it yet. */
  readonly prepare?: () => Promise<void>;
  /** Injects faults; the run goes into its quiet phase when it resolves. */
  readonly faults: (fleet: Fleet, random: () => number) => Promise<void>;
  /** How long the quiet phase may take to bring every task to rest. */
  readonly restMs: number;
  readonly say?: (line: string) => void;
}

/** What came of it. */
export interface RunResult {
  readonly report: Report;
  /** Invariants that had nothing to look at. */
  readonly unexercised: readonly Invariant[];
  /** The logs, left to the caller. */
  readonly directory: string;
  readonly summary: string;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs a plan and judges its logs. Ends all processes it started; the server is the caller's. */
export async function run(plan: RunPlan): Promise<RunResult> {
  const { server, database, scenario, seed } = plan;
  const directory = mkdtempSync(join(tmpdir(), "crash-run-"));
  const faults = new LogFile(join(directory, "faults.jsonl"));
  const processes = new Processes(faults, plan.sources);
  try {
    writeFileSync(join(directory, "policies.json"), JSON.stringify(policiesOf(scenario)));
    await (await openApp(database)).close();
    await plan.prepare?.();
    const random = seededRandom(seed);
    const orders = (name: string) => ({ database, directory, name, seed, scenario, load: plan.load });
    const fleet = new Fleet({ processes, faults, server, random, orders }, plan.workers);
    plan.say?.(`seed ${seed}, logs in ${directory}, PostgreSQL ${server.version}`);
    await fleet.start();
    const client = processes.start("client.ts", orders("client"));
    await client.ready;
    await plan.faults(fleet, random);
    await fleet.settled();
    plan.say?.("faults are over; waiting for every task to come to rest");
    await processes.drain(client, 30_000);
    await untilAtRest(database, plan.restMs);
    await fleet.end();
    await exportTables(database, directory, scenario);
  } finally {
    await processes.endAll();
    faults.close();
  }
  return judge(directory);
}

/** Polls until nothing is unfinished; gives up when the time is over, which the checker will then say. */
async function untilAtRest(database: string, limitMs: number): Promise<void> {
  const until = performance.now() + limitMs;
  while (performance.now() < until) {
    if ((await countUnfinished(database)) === 0) return;
    await pause(250);
  }
}

function judge(directory: string): RunResult {
  const report = checkHistory(buildHistory(readLogs(directory)));
  const unexercised = report.unexercised(Object.keys(invariants) as Invariant[]);
  const figure = (name: string): string => `${report.figures.get(name)} ${name}`;
  const figures = ["tasks", "starts", "kills", "stops", "restarts"].map(figure);
  return {
    report,
    unexercised,
    directory,
    summary: `${figures.join(", ")}, ${report.violations} violations`,
  };
}

/** How long to crash, and from which seed. */
export interface CrashRunOptions {
  readonly faultMs: number;
  readonly seed: number;
  readonly workers: number;
  /** Multiplies the loads of the scenario. Default 1. */
  readonly load?: number;
  readonly say?: (line: string) => void;
}

/** The crash run: a server of its own, and a fault every 2 to 6 seconds. */
export async function crashRun(options: CrashRunOptions): Promise<RunResult> {
  const server = await startPostgres();
  try {
    return await run({
      server,
      database: server.url,
      scenario: crashScenario,
      seed: options.seed,
      workers: options.workers,
      load: options.load ?? 1,
      restMs: 60_000 + options.faultMs / 2,
      ...(options.say !== undefined && { say: options.say }),
      async faults(fleet, random) {
        const until = performance.now() + options.faultMs;
        while (performance.now() < until) {
          await pause(Math.min(between(random, 2000, 6000), until - performance.now()));
          if (performance.now() < until) await fleet.fault();
        }
      },
    });
  } finally {
    await server.stop();
  }
}
