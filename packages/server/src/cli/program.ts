/**
 * The command line as a whole: which commands there are, and how bad usage and failures are told.
 *
 * Exit codes: 0 done, 1 said no or failed, 2 bad usage, 130 stopped by Ctrl-C. A failure is one line on standard
 * error: `sluice: code: what happened; what to do next`.
 */

import { readFileSync } from "node:fs";
import { isSluiceError } from "@sluice/core";
import { Command, CommanderError } from "commander";
import { addDemoCommand } from "./demo.ts";

/** What the command line writes to: `process`, or lists in a test. */
export interface ProgramOutput {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

const exitDone = 0;
const exitFailed = 1;
const exitUsage = 2;

/** Runs one command line (without `node` and script) and gives the exit code. Never throws. */
export async function runProgram(argv: readonly string[], output: ProgramOutput): Promise<number> {
  let exitCode = exitDone;
  const program = createProgram(output, (code) => {
    exitCode = code;
  });
  try {
    if (argv.length === 0) {
      output.stderr.write(program.helpInformation());
      return exitUsage;
    }
    await program.parseAsync([...argv], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return tellUsage(error, output);
    output.stderr.write(`sluice: ${codeOf(error)}: ${firstLine(error)}\n`);
    return exitFailed;
  }
}

function createProgram(output: ProgramOutput, exitWith: (code: number) => void): Command {
  const program = new Command("sluice")
    .description("Rate limits and durable task queues. Start here: sluice demo")
    .version(ownVersion(), "--version", "print the version")
    .helpOption("-h, --help", "print this text, or that of a command")
    .helpCommand("help [command]", "print the text of a command")
    .enablePositionalOptions()
    .showSuggestionAfterError(true)
    .exitOverride()
    // Errors are told in one place, below; help and version are no errors and go out as they are.
    .configureOutput({ writeOut: (text) => void output.stdout.write(text), writeErr: () => {} });
  addDemoCommand(program, exitWith);
  return program;
}

/** Help and version come as exceptions too; everything else is bad usage: one line, with the nearest right name. */
function tellUsage(error: CommanderError, output: ProgramOutput): number {
  if (error.exitCode === 0) return exitDone;
  const [problem = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const next =
    suggestion === undefined
      ? "see sluice --help"
      : suggestion.replace(/^\(Did you mean (.*)\?\)$/, "did you mean $1?");
  const code = error.code
    .replace(/^commander\./, "")
    .replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  output.stderr.write(`sluice: ${code}: ${problem}; ${next}\n`);
  return exitUsage;
}

function codeOf(error: unknown): string {
  return isSluiceError(error) ? error.code : "internal";
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n", 1)[0]!;
}

/** The version of this package, as its package.json says beside the built files and the sources alike. */
function ownVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}
