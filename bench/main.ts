/**
 * The benchmarks: `node --conditions=@sluice/source bench/main.ts [NAME …] [options]`; without a name, all of them.
 * Text goes to stdout; with `--json` the report does instead, and is kept in `bench/results/`.
 */
import { parseArgs } from "node:util";
import { headerText, machineHeader, type Report, tableText, writeReport } from "./harness/report.ts";
import { type Servers, startServers } from "./harness/servers.ts";
import { type PeerName, peerNames } from "./peers/peers.ts";
import { accuracy } from "./suites/accuracy.ts";
import { claimFlat } from "./suites/claim-flat.ts";
import { enqueue } from "./suites/enqueue.ts";
import { latency } from "./suites/latency.ts";
import { limit, limitParts } from "./suites/limit.ts";
import type { Settings, Suite } from "./suites/suite.ts";
import { throughput } from "./suites/throughput.ts";

const suites: Readonly<Record<string, Suite>> = {
  accuracy,
  throughput,
  latency,
  enqueue,
  "claim-flat": claimFlat,
  limit,
};

const usage = `usage: npm run bench -- [NAME …] [--json] [--quick] [--only ENGINE,…] [--seconds N] [--runs N]
                       [--workers N] [--rates RATE,…] [--part PART,…]
${Object.entries(suites)
  .map(([name, suite]) => `  ${name.padEnd(11)} ${suite.description}`)
  .join("\n")}
engines: ${peerNames.join(", ")}
parts of limit: ${limitParts.join(", ")}
`;

class UsageError extends Error {}

function atLeastOne(name: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!(number >= 1)) throw new UsageError(`--${name} takes a number of at least 1, not ${value}`);
  return number;
}

function engines(list: string | undefined): readonly PeerName[] {
  if (list === undefined) return peerNames;
  const names = list.split(",");
  const unknown = names.find((name) => !peerNames.includes(name as PeerName));
  if (unknown !== undefined) throw new UsageError(`no engine ${unknown}`);
  return names as PeerName[];
}

function parts(list: string | undefined): readonly string[] | undefined {
  const names = list?.split(",");
  const unknown = names?.find((name) => !limitParts.includes(name as (typeof limitParts)[number]));
  if (unknown !== undefined) throw new UsageError(`limit has no part ${unknown}`);
  return names;
}

function readCommandLine(): { names: string[]; json: boolean; help: boolean; settings: Settings } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
      only: { type: "string" },
      seconds: { type: "string" },
      runs: { type: "string" },
      workers: { type: "string" },
      rates: { type: "string" },
      part: { type: "string" },
    },
  });
  const unknown = positionals.find((name) => !Object.hasOwn(suites, name));
  if (unknown !== undefined) throw new UsageError(`no benchmark ${unknown}`);
  return {
    names: positionals.length > 0 ? positionals : Object.keys(suites),
    json: values.json,
    help: values.help,
    settings: {
      quick: values.quick,
      only: engines(values.only),
      seconds: atLeastOne("seconds", values.seconds),
      runs: atLeastOne("runs", values.runs),
      workers: atLeastOne("workers", values.workers) ?? 3,
      rates: values.rates?.split(","),
      parts: parts(values.part),
    },
  };
}

function say(line: string): void {
  process.stderr.write(`[bench] ${new Date().toISOString().slice(11, 19)} ${line}\n`);
}

async function runSuite(name: string, settings: Settings, servers: Servers): Promise<Report> {
  const header = machineHeader(servers.description);
  say(`${name}: ${suites[name]?.description}`);
  const tables = await (suites[name] as Suite).run({ settings, servers, say });
  return { bench: name, quick: settings.quick, header, tables };
}

async function main(): Promise<number> {
  const { names, json, help, settings } = readCommandLine();
  if (help) {
    process.stdout.write(usage);
    return 0;
  }
  const servers = await startServers();
  const stop = (): void => {
    say("stopped: rows that fail from here on mean nothing");
    void servers.stop().finally(() => process.exit(130));
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  let failed = false;
  try {
    for (const name of names) {
      const report = await runSuite(name, settings, servers);
      failed ||= report.tables.some((table) => table.rows.some((row) => row.failure?.startsWith("FAILED")));
      const shown = report.tables.map(tableText).join("\n");
      process[json ? "stderr" : "stdout"].write(`\n${headerText(report.header)}\n${shown}\n`);
      if (!json) continue;
      process.stdout.write(`${JSON.stringify(report)}\n`);
      say(`written to ${writeReport(report)}`);
    }
  } finally {
    await servers.stop();
  }
  return failed ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  const usageError =
    error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS");
  if (!usageError) throw error;
  process.stderr.write(`${(error as Error).message}\n${usage}`);
  process.exitCode = 2;
}
