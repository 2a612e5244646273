/**
 * One command from a bare checkout: `node tools/run.mjs demo|test|bench|crash [arguments]` installs and builds what is
 * missing, then becomes the named target: same terminal, same arguments, same signals, same exit code.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { become } from "./become.mjs";
import {
  alone,
  checkNode,
  ensureBuilt,
  ensureInstalled,
  environment,
  ownNode,
  Refusal,
  root,
  say,
  usersNode,
} from "./bootstrap.mjs";

const source = "--conditions=@sluice/source";

/** Each target: how to get ready for it, and then the command line that is it. */
const targets = {
  /** What a newcomer runs: built JavaScript, on the Node they have. */
  demo: {
    prepare() {
      ensureInstalled();
      ensureBuilt(["examples/provider-sync"]);
    },
    command: () => [usersNode(), join("examples", "provider-sync", "dist", "main.js")],
  },
  test: {
    prepare() {
      ensureInstalled();
      ensureBuilt();
    },
    command: () => [ownNode(), join("node_modules", "vitest", "vitest.mjs"), "run"],
  },
  /** Its peers are installed apart (bench/package-lock.json), so that nobody who only builds or tests pays for them. */
  bench: {
    prepare() {
      ensureInstalled();
      ensureInstalled(join(root, "bench"));
      ensureBuilt(["packages/queue"]);
    },
    command: () => [ownNode(), source, join("bench", "main.ts")],
  },
  crash: {
    prepare() {
      ensureInstalled();
      ensureBuilt(["packages/queue"]);
    },
    command: () => [ownNode(), source, join("tools", "crash-run", "main.ts")],
  },
};

async function main([name, ...args]) {
  const target = Object.hasOwn(targets, name ?? "") ? targets[name] : undefined;
  if (!target)
    throw new Refusal(
      `no such target: ${name ?? "(none)"}`,
      `node tools/run.mjs ${Object.keys(targets).join("|")}`,
    );
  checkNode();
  await alone(() => target.prepare());
  const [file, ...fixed] = target.command();
  const entry = fixed.find((part) => /\.[cm]?[jt]s$/.test(part));
  if (!existsSync(join(root, entry)))
    throw new Refusal(
      `${entry} is not in this checkout`,
      "check that the checkout is complete (`git status`)",
    );
  become(file, [...fixed, ...args], { cwd: root, env: environment() });
}

main(process.argv.slice(2)).catch((error) => {
  if (!(error instanceof Refusal)) throw error;
  say(`${error.message}\n        next: ${error.next}`);
  process.exitCode = 1;
});
