/**
 * node --conditions=@sluice/source tools/crash-run/main.ts [--minutes 2] [--seed N] [--workers 3] [--load 1] [--keep]
 *
 * Starts PostgreSQL, worker processes and a client, kills, stops and restarts them for the given time, waits until every
 * task is at rest, and judges the logs. Exit 0 only with 0 violations and every invariant exercised.
 */
import { rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { formatReport } from "../check-history/report.ts";
import { crashRun } from "./crash-run.ts";

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "2" },
      seed: { type: "string", default: String(Math.floor(Math.random() * 1_000_000)) },
      workers: { type: "string", default: "3" },
      load: { type: "string", default: "1" },
      keep: { type: "boolean", default: false },
    },
  });
  const [minutes, seed, workers, load] = [values.minutes, values.seed, values.workers, values.load].map(
    Number,
  );
  if (![minutes, seed, workers, load].every((value) => value !== undefined && value > 0)) {
    console.error("usage: crash-run [--minutes 2] [--seed N] [--workers 3] [--load 1] [--keep]");
    return 2;
  }
  const again = `npm run crash -- --minutes ${minutes} --seed ${seed} --workers ${workers} --load ${load}`;
  const { report, unexercised, directory, summary } = await crashRun({
    faultMs: (minutes as number) * 60_000,
    seed: seed as number,
    workers: workers as number,
    load: load as number,
    say: console.log,
  });
  const clean = report.violations === 0 && unexercised.length === 0;
  console.log(formatReport(report));
  if (unexercised.length > 0) console.log(`not exercised: ${unexercised.join(", ")}`);
  console.log(`\n${summary}`);
  if (clean && !values.keep) rmSync(directory, { recursive: true });
  else console.log(`logs: ${directory}`);
  if (!clean) console.log(`again: ${again}`);
  return clean ? 0 : 1;
}

process.exit(await main());
