import { expect, it } from "vitest";
import { runProgram } from "./program.ts";

async function run(...argv: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  let stdout = "";
  let stderr = "";
  const exitCode = await runProgram(argv, {
    stdout: {
      write: (text) => {
        stdout += text;
      },
    },
    stderr: {
      write: (text) => {
        stderr += text;
      },
    },
  });
  return { exitCode, stdout, stderr };
}

it("prints its version and nothing else", async () => {
  expect(await run("--version")).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    stderr: "",
  });
});

it("prints help on standard output when asked, on standard error with exit code 2 when nothing was said", async () => {
  const asked = await run("--help");
  expect(asked).toMatchObject({ exitCode: 0, stderr: "" });
  expect(asked.stdout).toContain("demo");
  for (const line of asked.stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  expect(await run()).toEqual({ exitCode: 2, stdout: "", stderr: asked.stdout });
});

it("names the nearest command in one line when a command is unknown", async () => {
  const { exitCode, stdout, stderr } = await run("dmo", "--json");
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  expect(stderr).toBe("sluice: unknown_command: unknown command 'dmo'; did you mean demo?\n");
});

it("points to the help when nothing is near", async () => {
  expect((await run("zzzzzzzz")).stderr).toBe(
    "sluice: unknown_command: unknown command 'zzzzzzzz'; see sluice --help\n",
  );
  expect(await run("--crash")).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("unknown_option"),
  });
});
