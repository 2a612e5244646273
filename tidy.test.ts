/**
 * The house rules as tests. Each rule is run over the whole tree, and over a small bad example that it must refuse: a rule
 * that cannot fail is not a rule. What the rules are and why: docs/adr/0001-house-and-layers.md.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { suites } from "./tools/testing/suites.ts";
import * as budgets from "./tools/tidy/budgets.ts";
import * as layers from "./tools/tidy/layers.ts";
import * as links from "./tools/tidy/links.ts";
import * as packages from "./tools/tidy/packages.ts";
import { parseSource, type SourceFile } from "./tools/tidy/source.ts";
import { describeViolations, readTree, type TextFile, type Violation } from "./tools/tidy/tree.ts";
import * as words from "./tools/tidy/words.ts";

/** Files in which a layer below the worker may ask the machine for time or chance, each with its reason. */
const ambientAllowed = {
  "packages/core/src/base/clock.ts": "it is the clock that everything else is handed",
  "packages/queue/src/task/task-id.ts": "an id is made of time and chance; nothing decides by it",
};

/** What the rules are run over: the tree, or a bad example. */
interface Tree {
  readonly files: readonly TextFile[];
  readonly sources: readonly SourceFile[];
}

/** A rule: what it says, what it finds, and examples that it must find fault with. */
interface Rule {
  readonly says: string;
  readonly find: (tree: Tree) => readonly Violation[];
  readonly refuses: readonly BadExample[];
}

/** Files by path, and a part of what the rule must say of them. */
interface BadExample {
  readonly files: Readonly<Record<string, string>>;
  readonly because: string;
}

function treeOf(files: readonly TextFile[]): Tree {
  return { files, sources: files.filter(({ path }) => /\.(ts|mjs)$/.test(path)).map(parseSource) };
}

function example(contents: Readonly<Record<string, string>>): Tree {
  return treeOf(Object.entries(contents).map(([path, text]) => ({ path, text })));
}

const tree = treeOf(readTree(import.meta.dirname));
/** The rules about words quote the words they ban. */
const quoting = /^(tidy\.test\.ts|tools\/tidy\/words\.ts)$/;

function synonymsOf(files: readonly TextFile[]): words.Synonym[] {
  return words.readSynonyms(files.find(({ path }) => path === "docs/glossary.md")?.text ?? "");
}

const core = "packages/core/src";
const queue = "packages/queue/src";
const longBody = "  void 0;\n".repeat(70);

const entries = {
  "packages/core/package.json": '{"name":"@sluice/core","exports":{".":{"@sluice/source":"./src/index.ts"}}}',
};

const importRules: readonly Rule[] = [
  {
    says: "imports run from engines over ports and pure code to base; stores stand beside the engines",
    find: ({ sources }) => layers.layerBreaches(sources),
    refuses: [
      {
        files: { [`${core}/limit/limit.ts`]: 'import { a } from "../stores/memory/memory-store.ts";' },
        because: "engine must not import store",
      },
      {
        files: { [`${core}/limit/algorithms/token-bucket.ts`]: 'import type { A } from "../limit.ts";' },
        because: "pure must not import engine",
      },
      { files: { [`${queue}/attic/old.ts`]: "" }, because: "is in no layer" },
    ],
  },
  {
    says: "packages are imported by name and downwards, and core imports nothing",
    find: ({ sources }) => layers.packageBreaches(sources),
    refuses: [
      {
        files: { [`${queue}/worker/claim.ts`]: 'import { a } from "../../../core/src/base/clock.ts";' },
        because: "enters packages/core by path",
      },
      {
        files: { [`${core}/stores/postgres/store.ts`]: 'const pg = await import("pg");' },
        because: "core has no dependencies",
      },
      {
        files: { [`${queue}/worker/claim.ts`]: 'import "@sluice/http";' },
        because: "queue must not import @sluice/http",
      },
    ],
  },
  {
    says: "production code never imports tests or testing",
    find: ({ sources }) => layers.testImports(sources),
    refuses: [
      {
        files: { [`${queue}/worker/claim.ts`]: 'import { virtualClock } from "@sluice/core/testing";' },
        because: "production code imports @sluice/core/testing",
      },
    ],
  },
  {
    says: "entry points only re-export, and nothing inside imports one",
    find: ({ sources, files }) => layers.entryPoints(sources, packages.entryFiles(files)),
    refuses: [
      { files: { ...entries, [`${core}/index.ts`]: "export const a = 1;" }, because: "only re-exports" },
      {
        files: { ...entries, [`${core}/limit/limit.ts`]: 'import type { A } from "../index.ts";' },
        because: "imports the entry point packages/core/src/index.ts",
      },
    ],
  },
  {
    says: "there are no import cycles, of types neither",
    find: ({ sources }) => layers.importCycles(sources),
    refuses: [
      {
        files: {
          "tools/a.ts": 'import type { B } from "./b.ts";',
          "tools/b.ts": 'export * from "./c.ts";',
          "tools/c.ts": 'import("./a.ts");',
        },
        because: "tools/a.ts -> tools/b.ts -> tools/c.ts -> tools/a.ts",
      },
    ],
  },
  {
    says: "time and chance are injected",
    find: ({ sources }) => layers.ambientTime(sources, ambientAllowed),
    refuses: [
      {
        files: { [`${core}/limit/limit.ts`]: "export const now = (): number => Date.now();" },
        because: "Date.now: use the injected clock",
      },
      {
        files: { [`${queue}/worker/worker.ts`]: "setTimeout(() => {}, 10 * Math.random());" },
        because: "setTimeout: use the injected clock",
      },
    ],
  },
];

const shapeRules: readonly Rule[] = [
  {
    says: "files have at most 500 lines, tests 600",
    find: ({ files }) => budgets.longFiles(files),
    refuses: [{ files: { "tools/long.ts": `${"\n".repeat(500)}x` }, because: "has 501 lines" }],
  },
  {
    says: "functions have at most 70 lines and four parameters",
    find: ({ sources }) => budgets.longFunctions(sources),
    refuses: [
      { files: { "tools/a.ts": `const work = () => {\n${longBody}};` }, because: "work has 72 lines" },
      {
        files: { "tools/a.ts": "interface A { m(a: 1, b: 2, c: 3, d: 4, e: 5): void }" },
        because: "m takes 5 parameters",
      },
    ],
  },
  {
    says: "SQL functions have at most 70 lines",
    find: ({ files }) => budgets.longRoutines(files),
    refuses: [
      {
        files: {
          "a/long.sql": `-- long\nCREATE FUNCTION f(a int) RETURNS int AS $$\n${"SELECT 1;\n".repeat(71)}$$;`,
        },
        because: "f has 71 lines",
      },
    ],
  },
  {
    says: "nothing is typed `any`",
    find: ({ sources }) => budgets.anyTypes(sources),
    refuses: [{ files: { "tools/a.ts": "export const a: Record<string, any> = {};" }, because: "`any`" }],
  },
  {
    says: "no file or folder is named after nothing in particular",
    find: ({ files }) => budgets.heapNames(files),
    refuses: [{ files: { [`${core}/utils.ts`]: "" }, because: "named after nothing" }],
  },
  {
    says: "files are named in kebab-case",
    find: ({ files }) => budgets.fileNames(files),
    refuses: [{ files: { [`${core}/tokenBucket.ts`]: "" }, because: "kebab-case" }],
  },
];

const packageRules: readonly Rule[] = [
  {
    says: "dependencies are pinned to one version",
    find: ({ files }) => packages.loosePins(files),
    refuses: [
      {
        files: { "packages/queue/package.json": '{"dependencies":{"pg":"^8.0.0"}}' },
        because: "pg is ^8.0.0",
      },
      {
        files: { "packages/queue/package.json": '{"peerDependencies":{"pg":">=8"}}' },
        because: "pg is >=8",
      },
    ],
  },
  {
    says: "core has no dependencies",
    find: ({ files }) => packages.coreDependencies(files),
    refuses: [
      {
        files: { "packages/core/package.json": '{"name":"@sluice/core","peerDependencies":{"pg":"8.0.0"}}' },
        because: "core has peerDependencies",
      },
    ],
  },
  {
    says: "nothing a published package brings along needs an install script",
    find: ({ files }) =>
      files.filter(({ path }) => path === "package-lock.json").flatMap(packages.installScripts),
    refuses: [
      {
        files: {
          "package-lock.json": JSON.stringify({
            packages: {
              "packages/queue": { dependencies: { a: "1.0.0" } },
              "node_modules/a": { optionalDependencies: { b: "1.0.0" } },
              "node_modules/a/node_modules/b": { hasInstallScript: true },
              "node_modules/b": {},
            },
          }),
        },
        because: "node_modules/a/node_modules/b has an install script (through packages/queue > a > b)",
      },
    ],
  },
];

const wordRules: readonly Rule[] = [
  {
    says: "public names keep to the glossary",
    find: ({ files, sources }) => words.bannedSynonyms(sources, synonymsOf(files)),
    refuses: [
      {
        files: {
          "docs/glossary.md":
            "| word | is | not |\n|---|---|---|\n| **task** | a unit of work | job, work item |",
          [`${queue}/task/task.ts`]: "export interface Task { readonly jobIds: string[] }",
        },
        because: 'jobIds: say "task", not "job"',
      },
    ],
  },
  {
    says: "no test is focused, skipped or unwritten",
    find: ({ sources }) => words.sleepingTests(sources),
    refuses: [
      {
        files: { "tools/a.test.ts": 'describe.each([1]).skip("x", () => {});' },
        because: "describe.each.skip",
      },
    ],
  },
  {
    says: "every test file is in exactly one suite",
    find: ({ files }) => words.homelessTests(files, suites),
    refuses: [{ files: { "deploy/a.test.ts": "" }, because: "never runs" }],
  },
  {
    says: "no work is put off in a comment",
    find: ({ files }) => words.postponedWork(files.filter(({ path }) => !quoting.test(path))),
    refuses: [{ files: { "tools/a.ts": "// TODO: the rest" }, because: "TODO" }],
  },
  {
    says: "no file names a package registry or a path of one machine",
    find: ({ files }) => words.machineTraces(files.filter(({ path }) => !quoting.test(path))),
    refuses: [{ files: { "docs/a.md": "see /home/somebody/notes" }, because: "/home/somebody/" }],
  },
  {
    says: "every SQL file begins by saying what it is for",
    find: ({ files }) => words.sqlHeaders(files),
    refuses: [{ files: { "a/b.sql": "SELECT 1;" }, because: "does not begin with a comment" }],
  },
  {
    says: "links between documents lead somewhere",
    find: ({ files }) => links.brokenLinks(files),
    refuses: [{ files: { "docs/a.md": "[b](./b.md)" }, because: "links to ./b.md" }],
  },
  {
    says: "every document is listed in docs/README.md",
    find: ({ files }) => links.unlistedDocuments(files),
    refuses: [
      { files: { "docs/README.md": "[a](a.md)", "docs/a.md": "", "docs/b.md": "" }, because: "docs/b.md" },
    ],
  },
];

describe.each([
  ["imports", importRules],
  ["shape", shapeRules],
  ["packages", packageRules],
  ["words", wordRules],
])("house rules: %s", (_, rules) => {
  describe.each(rules)("$says", ({ find, refuses }) => {
    test("holds in this tree", () => {
      expect(describeViolations(find(tree))).toEqual([]);
    });

    test.each(refuses)("refuses a bad example: $because", ({ files, because }) => {
      expect(describeViolations(find(example(files))).join("\n")).toContain(because);
    });
  });
});

describe("house rules: programs", () => {
  test("Biome has nothing to say", { timeout: 60_000 }, () => {
    execFileSync(
      process.execPath,
      [join("node_modules", "@biomejs", "biome", "bin", "biome"), "check", "."],
      { stdio: "pipe" },
    );
  });

  test.each(["build-sql.mjs", "build-lua.mjs"])("what tools/%s generates is what its sources say", (name) => {
    const builder = join("tools", name);
    expect(existsSync(builder)).toBe(true);
    execFileSync(process.execPath, [builder, "--check"], { stdio: "pipe" });
  });

  test("the glossary has words, and bans synonyms", () => {
    expect(synonymsOf(tree.files).length).toBeGreaterThan(10);
  });
});
