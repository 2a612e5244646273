/** Where programs of documents are compiled and run: a folder of their own inside the tree, so that packages are found by name. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { promisify } from "node:util";
import type { Violation } from "../tidy/tree.ts";
import { printedAsSaid, type Snippet } from "./snippet.ts";

const root = join(import.meta.dirname, "..", "..");
const runner = join(import.meta.dirname, "run-snippet.mjs");
const compileLimitMs = 120_000;
const runLimitMs = 60_000;

/** How `execFile` tells of a process that ended badly. */
interface Failure {
  readonly killed?: boolean;
  /** The exit code: 13 is that of a top-level await which nothing will ever settle. */
  readonly code?: number | string;
  readonly stdout?: string;
  readonly stderr?: string;
}

/** What became of a program. */
export interface RunResult {
  readonly ok: boolean;
  /** What it printed, or what went wrong. */
  readonly text: string;
}

/** A place to work on some programs. Close it. */
export class Workshop implements Disposable {
  readonly #folder: string;
  readonly #snippets: readonly Snippet[];

  constructor(snippets: readonly Snippet[]) {
    const cache = join(root, ".cache");
    mkdirSync(cache, { recursive: true });
    this.#folder = mkdtempSync(join(cache, "snippets-"));
    this.#snippets = snippets;
    // Without an import or export at its top a file is no module, and may not await there.
    for (const snippet of snippets) writeFileSync(this.#fileOf(snippet), `${snippet.code}\nexport {};\n`);
  }

  /** Compiles all of them at once, as the repository does its own sources; returns what the compiler says, by document. */
  async compile(): Promise<Violation[]> {
    const config = {
      extends: join(root, "tsconfig.base.json"),
      compilerOptions: {
        noEmit: true,
        composite: false,
        declaration: false,
        declarationMap: false,
        isolatedDeclarations: false,
        // A rule for our own sources; users write process.env.PORT.
        noPropertyAccessFromIndexSignature: false,
        customConditions: ["@sluice/source"],
        lib: ["es2023", "es2024.string", "es2024.promise", "esnext.disposable"],
      },
      files: this.#snippets.map((snippet) => this.#fileOf(snippet)),
    };
    const file = join(this.#folder, "tsconfig.json");
    writeFileSync(file, JSON.stringify(config));
    const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
    const args = [compiler, "-p", file, "--pretty", "false"];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      cwd: this.#folder,
      timeout: compileLimitMs,
      maxBuffer: 2 ** 26,
    }).catch((error: { stdout?: string; killed?: boolean }) => {
      if (!error.stdout || error.killed) throw error;
      return { stdout: error.stdout };
    });
    return this.#errorsIn(stdout);
  }

  /** Runs one of them, at most a minute, and compares what it prints with what the document says. */
  async run(snippet: Snippet, env: Readonly<Record<string, string>>): Promise<RunResult> {
    const home = mkdtempSync(join(tmpdir(), "sluice-snippet-"));
    const { NODE_OPTIONS: _, ...inherited } = process.env;
    try {
      const args = ["--conditions=@sluice/source", "--no-warnings", runner, this.#fileOf(snippet)];
      const options = { cwd: home, env: { ...inherited, ...env }, timeout: runLimitMs } as const;
      const { stdout } = await promisify(execFile)(process.execPath, args, {
        ...options,
        killSignal: "SIGKILL",
      });
      if (printedAsSaid(snippet, stdout)) return { ok: true, text: stdout };
      return { ok: false, text: `it printed\n${stdout}\nbut the document says\n${snippet.output}` };
    } catch (error) {
      const { killed, code, stdout = "", stderr = "" } = error as Failure;
      const why = killed ? `it took longer than ${runLimitMs} ms` : `it ended with ${code}`;
      return { ok: false, text: [why, stdout, stderr].join("\n") };
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #fileOf(snippet: Snippet): string {
    return join(this.#folder, `${snippet.path.replaceAll(/[^a-z0-9]+/gi, "-")}-${snippet.line}.ts`);
  }

  #errorsIn(output: string): Violation[] {
    const byFile = new Map(
      this.#snippets.map((snippet) => [relative(this.#folder, this.#fileOf(snippet)), snippet]),
    );
    return output.split("\n").flatMap((text) => {
      if (text.startsWith("error ")) throw new Error(`the compiler did not start: ${text}`);
      const match = /^(?<file>[^()]+)\((?<line>\d+),\d+\): error (?<message>.*)$/.exec(text);
      const { file = "", line = "", message = "" } = match?.groups ?? {};
      // What is wrong in the packages themselves is found, and told, by their own compilation.
      const snippet = byFile.get(file);
      if (snippet === undefined) return [];
      return [{ path: snippet.path, line: snippet.lines[Number(line) - 1] ?? snippet.line, message }];
    });
  }
}
