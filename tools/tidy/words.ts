/** Words: one for each concept (docs/glossary.md), none that postpone work, none that name somebody's machine. */
import { matchesGlob } from "node:path";
import type { SuiteDefinition } from "../testing/suites.ts";
import type { SourceFile } from "./source.ts";
import { isProductionSource, isTestFile, type TextFile, type Violation } from "./tree.ts";

/** A word that must not be used, and the one that is. */
export interface Synonym {
  readonly banned: string;
  readonly word: string;
}

/** Reads the glossary's table: first column the word, last column ("not") what not to call it, separated by commas. */
export function readSynonyms(glossary: string): Synonym[] {
  const rows = glossary
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .map(cellsOf);
  const last = rows.findIndex((cells) => cells.at(-1)?.toLowerCase().startsWith("not"));
  if (last < 0) return [];
  return rows.slice(last + 1).flatMap((cells) => {
    const word = plain(cells[0] ?? "");
    const banned = (cells.at(-1) ?? "")
      .split(/[,;]/)
      .map(plain)
      .filter((text) => /^[a-z][a-z -]*$/i.test(text));
    return banned.map((text) => ({ banned: text.toLowerCase(), word }));
  });
}

function cellsOf(row: string): string[] {
  return row
    .slice(1, row.lastIndexOf("|"))
    .split("|")
    .map((cell) => cell.trim());
}

function plain(cell: string): string {
  return cell.replaceAll(/[*`_"]|\(.*?\)/g, "").trim();
}

/** Public names of the packages keep to the glossary. */
export function bannedSynonyms(files: readonly SourceFile[], synonyms: readonly Synonym[]): Violation[] {
  return files
    .filter(({ path }) => isProductionSource(path))
    .flatMap(({ path, publicNames }) =>
      publicNames.flatMap(({ name, line }) => {
        const words = ` ${wordsOf(name)} `;
        const hit = synonyms.find(({ banned }) => words.includes(` ${banned.replaceAll("-", " ")} `));
        return hit ? [{ path, line, message: `${name}: say "${hit.word}", not "${hit.banned}"` }] : [];
      }),
    );
}

/** "camelCase", "PascalCase", "snake_case" and "UPPER_CASE" as lower-case words; a plural counts as its singular. */
function wordsOf(name: string): string {
  const words = name
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2")
    .replaceAll(/[_-]/g, " ")
    .toLowerCase()
    .split(" ");
  return words.map((word) => word.replace(/([^s])s$/, "$1")).join(" ");
}

/** Tests that do not run: a focused one hides all others, a skipped or unwritten one hides itself. */
export function sleepingTests(files: readonly SourceFile[]): Violation[] {
  const sleeping = /^(it|test|describe|suite)\b.*\.(only|skip|todo|skipIf|runIf|fails)$/;
  return files.flatMap(({ path, uses }) =>
    uses
      .filter(({ name }) => sleeping.test(name) || /^(xit|xtest|xdescribe|fit|fdescribe)$/.test(name))
      .map(({ name, line }) => ({
        path,
        line,
        message: `${name}: a test runs, or says why not with context.skip("reason")`,
      })),
  );
}

/** Every test file is in exactly one suite; one that is in none never runs. */
export function homelessTests(files: readonly TextFile[], suites: readonly SuiteDefinition[]): Violation[] {
  return files
    .filter(({ path }) => path.endsWith(".test.ts"))
    .flatMap(({ path }) => {
      const matches = (patterns: readonly string[]): boolean =>
        patterns.some((pattern) => matchesGlob(path, pattern));
      const homes = suites
        .filter(({ include, exclude }) => matches(include) && !matches(exclude))
        .map(({ name }) => name);
      if (homes.length === 1) return [];
      return [
        {
          path,
          line: 0,
          message: homes.length === 0 ? "is in no suite, so it never runs" : `is in ${homes.join(" and ")}`,
        },
      ];
    });
}

/** Words that put work off. */
export function postponedWork(files: readonly TextFile[]): Violation[] {
  const words = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"].join("|")})\\b`);
  return linesMatching(files, words, (found) => `${found}: do it, or open an issue`);
}

/** Hosts of package registries (a lockfile must work behind any mirror) and paths of one machine. */
export function machineTraces(files: readonly TextFile[]): Violation[] {
  const hosts = ["registry.npmjs", "registry.yarnpkg", "npmmirror", "pypi.org", "jfrog.io", "verdaccio"].map(
    (host) => host.replaceAll(".", "\\."),
  );
  const paths = [
    "/(?:home|Users)/[a-z][\\w-]+/",
    "(?<![\\w./-])/work/",
    "(?<![\\w./-])/root/[\\w.-]",
    "/tmp/" + "brief",
  ];
  const traces = new RegExp([...hosts, ...paths].join("|"));
  return linesMatching(files, traces, (found) => `${found}: names a registry or a path of one machine`);
}

function linesMatching(
  files: readonly TextFile[],
  pattern: RegExp,
  say: (found: string) => string,
): Violation[] {
  return files.flatMap(({ path, text }) =>
    text.split("\n").flatMap((line, index) => {
      const found = pattern.exec(line)?.[0];
      return found === undefined ? [] : [{ path, line: index + 1, message: say(found) }];
    }),
  );
}

/** Every SQL and Lua file begins by saying what it is for, in comments. */
export function sqlHeaders(files: readonly TextFile[]): Violation[] {
  return files
    .filter(({ path, text }) => /\.(sql|lua)$/.test(path) && !isTestFile(path) && !/^--\s*\S/.test(text))
    .map(({ path }) => ({
      path,
      line: 1,
      message: "does not begin with a comment that says what it is for",
    }));
}
