/** The files of this repository as the rules see them: everything that could be committed, and nothing that is made. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One text file. */
export interface TextFile {
  /** Relative to the root, with `/` on every system. */
  readonly path: string;
  readonly text: string;
}

/** One breach of one rule. */
export interface Violation {
  readonly path: string;
  /** From 1; 0 when it is about the file as a whole. */
  readonly line: number;
  readonly message: string;
}

// The folders of .gitignore. The tree is walked rather than asked of git, because a checkout may come without git and
// because a file is better refused before it is committed than after.
const madeFolders = new Set(["node_modules", "dist", "coverage", ".git", ".sluice", ".cache", "local"]);
const textEndings =
  /\.(ts|mts|mjs|js|cjs|sql|lua|json|md|yml|yaml|sh|css|html)$|^LICENSE$|^\.ci\/|(^|\/)\.[a-z]+(ignore|rc)$/;

/** Reads every text file below `root`, in alphabetical order. */
export function readTree(root: string): TextFile[] {
  const paths = readdirSync(root, { withFileTypes: true }).flatMap((entry) => walk(root, "", entry));
  return paths.sort().map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

function walk(
  root: string,
  folder: string,
  entry: { name: string; isDirectory(): boolean; isFile(): boolean },
): string[] {
  const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
  if (entry.isDirectory()) {
    if (madeFolders.has(entry.name)) return [];
    return readdirSync(join(root, path), { withFileTypes: true }).flatMap((child) => walk(root, path, child));
  }
  return entry.isFile() && textEndings.test(path) ? [path] : [];
}

/** Whether a file is a test or only there for tests. */
export function isTestFile(path: string): boolean {
  return /\.test\.ts$|^packages\/[^/]+\/test\/|^examples\/[^/]+\/test\/|^tools\/[^/]+\/test\/|^tools\/testing\//.test(
    path,
  );
}

/** Whether a file is the code that users install: `packages/<name>/src`, without its tests and generated modules. */
export function isProductionSource(path: string): boolean {
  return /^packages\/[^/]+\/src\/.*\.ts$/.test(path) && !isTestFile(path) && !isGenerated(path);
}

/** Whether a file is written by a program of ours; its budgets are the program's. */
export function isGenerated(path: string): boolean {
  return path.endsWith(".generated.ts");
}

/** Prints violations one a line, `path:line message`, so that an editor can jump to them. */
export function describeViolations(violations: readonly Violation[]): string[] {
  return violations.map(({ path, line, message }) => `${path}${line > 0 ? `:${line}` : ""} ${message}`);
}
