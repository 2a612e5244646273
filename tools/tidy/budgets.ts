/** Budgets of size and shape: what is longer than this is hard to read, and hard to test. */
import type { SourceFile } from "./source.ts";
import { isGenerated, isTestFile, type TextFile, type Violation } from "./tree.ts";

const fileLinesMax = 500;
const testFileLinesMax = 600;
const functionLinesMax = 70;
const parametersMax = 4;

/** Files, functions or names that may break a budget, each with its reason. It starts empty; it is better kept so. */
export const exceptions: Readonly<Record<string, string>> = {};

/** Files of at most 500 lines (tests 600). */
export function longFiles(files: readonly TextFile[]): Violation[] {
  return files.flatMap(({ path, text }) => {
    if (!/\.(ts|mjs|js|sql|lua)$/.test(path) || isGenerated(path) || path in exceptions) return [];
    const lines = text.trimEnd().split("\n").length;
    const most = isTestFile(path) ? testFileLinesMax : fileLinesMax;
    return lines > most
      ? [{ path, line: 0, message: `has ${lines} lines, at most ${most} are allowed` }]
      : [];
  });
}

/** Functions of at most 70 lines and four parameters, in TypeScript. */
export function longFunctions(files: readonly SourceFile[]): Violation[] {
  return files.flatMap(({ path, functions }) => {
    if (isGenerated(path)) return [];
    return functions.flatMap(({ name, line, lines, parameters }) => {
      if (`${path}#${name}` in exceptions) return [];
      const found: Violation[] = [];
      if (lines > functionLinesMax)
        found.push({
          path,
          line,
          message: `${name} has ${lines} lines, at most ${functionLinesMax} are allowed`,
        });
      if (parameters > parametersMax) {
        found.push({
          path,
          line,
          message: `${name} takes ${parameters} parameters, at most ${parametersMax}: hand in an object`,
        });
      }
      return found;
    });
  });
}

/** Bodies of SQL functions (between their dollar quotes) of at most 70 lines, comment lines not counted. */
export function longRoutines(files: readonly TextFile[]): Violation[] {
  return files.flatMap(({ path, text }) => {
    if (!path.endsWith(".sql")) return [];
    return [...text.matchAll(/FUNCTION\s+(\w+)[^$]*\$(\w*)\$\n(.*?)\$\2\$/gis)].flatMap((match) => {
      const [whole, name, , body] = match as unknown as [string, string, string, string];
      const lines = body
        .trimEnd()
        .split("\n")
        .filter((line) => !line.trim().startsWith("--")).length;
      if (lines <= functionLinesMax || `${path}#${name}` in exceptions) return [];
      const line = text.slice(0, match.index + whole.indexOf(name)).split("\n").length;
      return [{ path, line, message: `${name} has ${lines} lines, at most ${functionLinesMax} are allowed` }];
    });
  });
}

/** `any` switches the type checker off; `unknown` does not. */
export function anyTypes(files: readonly SourceFile[]): Violation[] {
  return files.flatMap(({ path, anys }) =>
    anys.map((line) => ({ path, line, message: "`any`: say the type, or `unknown`" })),
  );
}

/** Files and folders named after nothing in particular fill up with everything: a type lives with its owner. */
export function heapNames(files: readonly TextFile[]): Violation[] {
  const heap =
    /(^|\/)(types|interfaces|utils?|helpers?|misc)\.[a-z]+$|(^|\/)(common|utils?|helpers?|shared)\//;
  return files
    .filter(({ path }) => heap.test(path))
    .map(({ path }) => ({
      path,
      line: 0,
      message: "is named after nothing in particular: name the one thing it is about",
    }));
}

/** File names are kebab-case (or numbered, as migrations and ADRs are). */
export function fileNames(files: readonly TextFile[]): Violation[] {
  const fine = /^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9-]+)*$|^\d{4}[-_][a-z0-9_-]+\.[a-z]+$/;
  return files
    .filter(
      ({ path }) => /\.(ts|mjs|sql|lua)$/.test(path) && !fine.test(path.slice(path.lastIndexOf("/") + 1)),
    )
    .map(({ path }) => ({ path, line: 0, message: "is not in kebab-case" }));
}
