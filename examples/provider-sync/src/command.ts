/** The demo as a command: arguments in, exit code out. `main.ts` runs it, and so does `sluice demo`. */

import { type DemoOptions, parseCommand, UsageError } from "./arguments.ts";
import { WorkerFailed } from "./child-processes.ts";
import { runDemo } from "./demo.ts";
import { type Place, preparePlace } from "./place.ts";
import { type DemoReport, reportJson } from "./report.ts";
import { Screen } from "./screen.ts";
import { stoppedLines, tableLines } from "./table.ts";

const exitHeld = 0;
const exitFailed = 1;
const exitUsage = 2;
const exitInterrupted = 130;

/**
 * Runs the demo as the command line asks and gives the exit code: 0 it held, 1 it did not or failed, 2 bad usage,
 * 130 stopped by Ctrl-C. `command` is how it was called, for the usage text. Never throws.
 */
export async function demoCommand(argv: readonly string[], command: string): Promise<number> {
  try {
    const parsed = parseCommand(argv, process.env, command);
    if (parsed.kind === "run") return await runAndTell(parsed.options, command);
    process.stdout.write(parsed.text);
    return exitHeld;
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`${error.code}: ${error.message}; see ${command} --help\n`);
      return exitUsage;
    }
    process.stderr.write(`${describe(error)}\n`);
    return exitFailed;
  }
}

async function runAndTell(options: DemoOptions, command: string): Promise<number> {
  // With --json, standard output is for the machine alone.
  const screen = new Screen(options.json ? process.stderr : process.stdout, process.env);
  const interrupt = listenForInterrupt();
  const place = await preparePlace(options.store, options.workers);
  try {
    const report = await runDemo(options, place, screen, interrupt.signal);
    const stopped = interrupt.signal.aborted;
    const lines = stopped ? stoppedLines(report) : tableLines(report, screen.paint);
    screen.print(...lines);
    if (options.json) process.stdout.write(`${reportJson(report)}\n`);
    await clearAway(place, { report, stopped, screen, command });
    if (stopped) return exitInterrupted;
    return report.held ? exitHeld : exitFailed;
  } catch (error) {
    if (options.json) process.stdout.write(`${JSON.stringify({ held: false, error: describe(error) })}\n`);
    throw error;
  } finally {
    interrupt.forget();
  }
}

interface Ending {
  readonly report: DemoReport;
  readonly stopped: boolean;
  readonly screen: Screen;
  readonly command: string;
}

/** A place nobody named goes after a clean run, or when a person stopped it; after a failure it may hold the reason. */
async function clearAway(place: Place, { report, stopped, screen, command }: Ending): Promise<void> {
  if (place.named) {
    if (stopped) screen.print(`Continue with: ${command} ${place.continueWith}`);
  } else if (report.held || stopped) {
    await place.remove();
  } else {
    screen.print(`The work is kept: ${place.label}`);
  }
}

/** Ctrl-C and SIGTERM once: stop cleanly. Twice: leave at once; the children leave with us. */
function listenForInterrupt(): { readonly signal: AbortSignal; forget(): void } {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(exitInterrupted);
    controller.abort();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  return {
    signal: controller.signal,
    forget() {
      process.off("SIGINT", onSignal);
      process.off("SIGTERM", onSignal);
    },
  };
}

/** What to do about the failures a person can do something about, by code. */
const nextSteps: Readonly<Record<string, string>> = {
  data_directory_in_use: "stop the run that uses it, or name another with --data-dir",
  data_directory_unusable: "name another with --data-dir",
  database_too_old: "use PostgreSQL 15 or newer",
  idempotency_conflict: "the work here was begun with another --requests; use that number, or another place",
  store_unavailable: "check that the server runs and DATABASE_URL is right",
};

/** A failure in one line: code, what happened, what to do next. */
function describe(error: unknown): string {
  const code = error instanceof WorkerFailed ? error.code : "internal";
  const message = error instanceof Error ? error.message : String(error);
  const nextStep = nextSteps[code];
  return `${code}: ${message.split("\n", 1)[0]}${nextStep === undefined ? "" : `; ${nextStep}`}`;
}
