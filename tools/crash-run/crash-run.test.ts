/** The crash run as the last suite of `npm test`: two minutes of faults (CRASH_RUN_MINUTES), then the checker. */
import { rmSync } from "node:fs";
import { expect, test } from "vitest";
import { formatReport } from "../check-history/report.ts";
import { crashRun } from "./crash-run.ts";

const minutes = Number(process.env["CRASH_RUN_MINUTES"] ?? 2);
const seed = Number(process.env["CRASH_RUN_SEED"] ?? Math.floor(Math.random() * 1_000_000));

test(`three workers under SIGKILL, SIGSTOP and crashes of PostgreSQL break no promise (seed ${seed})`, {
  timeout: minutes * 150_000 + 180_000,
}, async () => {
  const { report, unexercised, directory, summary } = await crashRun({
    faultMs: minutes * 60_000,
    seed,
    workers: 3,
  });
  console.log(summary);
  expect(report.violations, `${formatReport(report)}\nlogs: ${directory}`).toBe(0);
  expect(unexercised).toEqual([]);
  rmSync(directory, { recursive: true });
});
