/**
 * The tests that @fastify/rate-limit ships of itself, with our store in the place of its memory store. Those of its Redis store
 * and of the closing of its memory store have no object here.
 */
import { execFile } from "node:child_process";
import { cpSync, globSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";

const require = createRequire(import.meta.url);
const theirs = dirname(require.resolve("@fastify/rate-limit/package.json"));
const modules = join(import.meta.dirname, "..", "..", "..", "node_modules");

/** Our store under the name of theirs; time is `Date`, which their tests hold in their hand. */
const stand = `
  const { memory } = require("@sluice/core");
  const { fastifyRateLimitStore } = require("@sluice/http/adapters");
  const nowUs = () => Date.now() * 1000;
  const setTimer = (fn, us) => { const timer = setTimeout(fn, us / 1000); return { cancel: () => clearTimeout(timer) }; };
  module.exports = function LocalStore(continueExceeding, exponentialBackoff) {
    return new (fastifyRateLimitStore(memory({ clock: { nowUs, setTimer } })))({ continueExceeding, exponentialBackoff });
  };`;

/**
 * What differs, with the reason: its memory store reports a doubled wait and does not keep to it, which this test writes
 * down; its Redis store and ours do.
 */
const different = [
  "With { increment: false } and exponentialBackoff the peek reports the base window without escalating it",
];

test("@fastify/rate-limit passes its own tests on our store", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-their-tests-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(theirs, folder, { recursive: true });
  symlinkSync(modules, join(folder, "node_modules"), "dir");
  writeFileSync(join(folder, "store", "LocalStore.js"), stand);
  const files = globSync("test/**/*.test.js", { cwd: folder }).filter(
    (file) => !/redis|local-store/.test(file),
  );
  expect(files.length).toBeGreaterThan(5);
  const flags = ["--conditions=@sluice/source", "--no-warnings", "--test", "--test-reporter=tap"];
  const output = await run([...flags, ...files], folder);
  const failed = [...output.matchAll(/^ *not ok \d+ - (.*)$/gm)].map(([, name]) => name);
  expect(failed).toEqual(different);
  expect(Number(/^# pass (\d+)/m.exec(output)?.[1])).toBeGreaterThan(80);
});

/** The output of a run, whether it succeeds or not. */
function run(given: readonly string[], cwd: string): Promise<string> {
  const { NODE_OPTIONS: _, NODE_TEST_CONTEXT: __, ...env } = process.env;
  return new Promise((resolve) => {
    execFile(process.execPath, given, { cwd, env, maxBuffer: 2 ** 26 }, (_error, stdout) => resolve(stdout));
  });
}
