import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { expect, onTestFinished, test } from "vitest";

const module = new URL("./become.mjs", import.meta.url).href;

/** Starts a process that becomes `node -e program`; gives its lines of output. */
function becoming(
  program: string,
  env: NodeJS.ProcessEnv = {},
): { child: ChildProcess; line: () => Promise<string> } {
  const script = `import(${JSON.stringify(module)}).then(({ become }) => become(process.execPath, ["-e", ${JSON.stringify(program)}], {}))`;
  const { npm_lifecycle_event: _, ...rest } = process.env;
  const child = spawn(process.execPath, ["-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...rest, ...env },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return { child, line: async () => String((await lines.next()).value) };
}

test.each([0, 1, 42])("it ends with exit code %i as its target does", async (code) => {
  const { child } = becoming(`process.exit(${code})`);
  expect(await once(child, "exit")).toEqual([code, null]);
});

test("it dies of the signal its target dies of", async () => {
  const { child } = becoming('process.kill(process.pid, "SIGKILL")');
  expect(await once(child, "exit")).toEqual([null, "SIGKILL"]);
});

test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
  "it passes %s on and waits for the target to finish",
  async (signal) => {
    const target = `process.once("${signal}", () => { console.log("last words"); setTimeout(() => process.exit(7), 50); });
    setInterval(() => {}, 1000); console.log("ready");`;
    const { child, line } = becoming(target);
    expect(await line()).toBe("ready");
    child.kill(signal);
    expect(await line()).toBe("last words");
    expect(await once(child, "exit")).toEqual([7, null]);
  },
);

test.each([
  ["by a shell that stays between", true],
  ["directly", false],
])("it stops its target when the npm that started it %s is killed", async (_, shell) => {
  const target = `process.once("SIGTERM", () => { console.log("stopped"); process.exit(0); });
    setInterval(() => {}, 1000); console.log("ready");`;
  const become = `import(process.env.BECOME).then(({ become }) => become(process.execPath, ["-e", process.env.TARGET], {}))`;
  const start = shell
    ? 'spawn(\'"$NODE" -e "$SCRIPT"; exit $?\', { shell: true, stdio })'
    : "spawn(process.execPath, ['-e', process.env.SCRIPT], { stdio })";
  const npm = `const { spawn } = require("node:child_process"); const stdio = "inherit"; ${start}`;
  const child = spawn(process.execPath, ["-e", npm], {
    stdio: ["ignore", "pipe", "inherit"],
    env: {
      ...process.env,
      npm_lifecycle_event: "demo",
      NODE: process.execPath,
      BECOME: module,
      TARGET: target,
      SCRIPT: become,
    },
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe("ready");
  child.kill("SIGKILL");
  expect((await lines.next()).value).toBe("stopped");
});
