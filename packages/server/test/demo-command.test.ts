/** `sluice demo` in a process of its own: the application behind it, under the name of this command. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const cli = fileURLToPath(new URL("../src/cli.ts", import.meta.url));

interface Ended {
  readonly exitCode: unknown;
  readonly stdout: string;
  readonly stderr: string;
}

function sluice(...args: string[]): Promise<Ended> {
  const { DATABASE_URL: _, ...environment } = process.env;
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [...process.execArgv, cli, ...args],
      { env: environment },
      (error, stdout, stderr) => {
        resolve({ exitCode: error === null ? 0 : error.code, stdout, stderr });
      },
    );
  });
}

it("leaves the options of the demo to the application, and names itself in its usage", async () => {
  const { exitCode, stdout, stderr } = await sluice("demo", "--help");
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toMatch(/^Usage: sluice demo \[options\]/);
  expect(stdout).toContain("--crash");
});

it("passes the exit code of the application on", async () => {
  const { exitCode, stderr } = await sluice("demo", "--workers", "many", "--json");
  expect(exitCode).toBe(2);
  expect(stderr).toBe(
    'invalid_option: --workers takes a whole number from 1 to 16, got "many"; see sluice demo --help\n',
  );
});
