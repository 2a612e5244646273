/**
 * node tools/check-history/main.ts DIR [--json] [--require all | RL1,Q1,...]
 *
 * Exit 0: clean, and everything required was exercised. 1: violations, or a required check had nothing to look at.
 * 2: bad usage or logs that cannot be read.
 */
import { parseArgs } from "node:util";
import { checkHistory } from "./check.ts";
import { buildHistory, readLogs } from "./read.ts";
import { formatReport, type Invariant, invariants, reportToJson } from "./report.ts";

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: "boolean", default: false }, require: { type: "string", default: "" } },
  });
  const directory = positionals[0];
  const names = Object.keys(invariants) as Invariant[];
  const required =
    values.require === "all" ? names : (values.require.split(",").filter(Boolean) as Invariant[]);
  if (directory === undefined || positionals.length > 1 || required.some((name) => !names.includes(name))) {
    console.error("usage: node tools/check-history/main.ts DIR [--json] [--require all | RL1,Q1,...]");
    return 2;
  }
  const report = checkHistory(buildHistory(readLogs(directory)));
  const unexercised = report.unexercised(required);
  if (values.json) console.log(JSON.stringify({ ...(reportToJson(report) as object), unexercised }, null, 2));
  else {
    console.log(formatReport(report));
    if (unexercised.length > 0) console.log(`not exercised, though required: ${unexercised.join(", ")}`);
    console.log(report.violations === 0 ? "clean" : `${report.violations} violations`);
  }
  return report.violations === 0 && unexercised.length === 0 ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
