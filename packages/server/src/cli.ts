#!/usr/bin/env node
/** The `sluice` command. What it can do is in `cli/`, one file a command. */

import { runProgram } from "./cli/program.ts";

process.exitCode = await runProgram(process.argv.slice(2), process);
