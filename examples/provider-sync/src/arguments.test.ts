import { describe, expect, it } from "vitest";
import { type DemoOptions, parseCommand, UsageError, usage } from "./arguments.ts";

const url = "postgres://somewhere/db";

function optionsOf(argv: string[], environment: Record<string, string> = {}): DemoOptions {
  const command = parseCommand(argv, environment, "demo");
  if (command.kind !== "run") throw new Error("not a run");
  return command.options;
}

describe("command line of the demo", () => {
  it("runs five requests for each pair on the embedded database when nothing is said, DATABASE_URL or not", () => {
    const expected = { crash: false, json: false, workers: 1, requests: 5, store: { engine: "embedded" } };
    expect(optionsOf([])).toEqual(expected);
    expect(optionsOf([], { DATABASE_URL: url })).toEqual(expected);
  });

  it("goes to PostgreSQL when workers are asked for and DATABASE_URL is set", () => {
    expect(optionsOf(["--workers", "3", "--crash"], { DATABASE_URL: url })).toMatchObject({
      crash: true,
      workers: 3,
      store: { engine: "postgres", url },
    });
    expect(optionsOf(["--schema", "mine"], { DATABASE_URL: url }).store).toEqual({
      engine: "postgres",
      url,
      schema: "mine",
    });
  });

  it("runs one embedded worker when one is asked for and there is no server", () => {
    expect(optionsOf(["--workers", "1", "--data-dir", "x"]).store).toEqual({
      engine: "embedded",
      dataDir: "x",
    });
  });

  it.each([
    ["several workers without a server", ["--workers", "3"], /set DATABASE_URL/],
    ["a schema without a server", ["--schema", "a"], /set DATABASE_URL/],
    ["an unknown option", ["--crush"], /--crush/],
    ["a positional argument", ["fast"], /fast/],
    ["no workers", ["--workers", "0"], /1 to 16, got "0"/],
    ["half a worker", ["--workers", "1.5"], /1 to 16/],
    ["too many requests", ["--requests", "101"], /1 to 100/],
    ["a number that is none", ["--requests", "many"], /got "many"/],
    ["an option without its value", ["--requests"], /--requests/],
    ["an empty data directory", ["--data-dir", ""], /path of a directory/],
    ["a flag with a value", ["--json=yes"], /--json/],
  ])("refuses %s in one clear line", (_what, argv, message) => {
    expect(() => optionsOf(argv)).toThrow(UsageError);
    expect(() => optionsOf(argv)).toThrow(message);
    expect(() => optionsOf(argv)).not.toThrow(/\n/);
  });

  it.each([
    ["a data directory on PostgreSQL", ["--workers", "2", "--data-dir", "x"], /--schema NAME/],
    ["a schema that would need quoting", ["--schema", 'a"; drop'], /lower-case letters/],
  ])("refuses %s", (_what, argv, message) => {
    expect(() => optionsOf(argv, { DATABASE_URL: url })).toThrow(message);
  });

  it("explains itself within 80 columns and names every option", () => {
    const command = parseCommand(["--help"], {}, "npm run demo --");
    expect(command).toEqual({ kind: "help", text: usage("npm run demo --") });
    for (const line of usage("npm run demo --").split("\n")) expect(line.length).toBeLessThanOrEqual(80);
    for (const option of ["--crash", "--workers", "--requests", "--data-dir", "--schema", "--json"]) {
      expect(usage("demo")).toContain(option);
    }
  });
});
