/**
 * node --conditions=@sluice/source tools/crash-run/mutants.ts [--only TEXT] [--list]
 *
 * Breaks the real product in one place at a time and runs it on real PostgreSQL for some ten seconds under the same faults.
 * Prints which defects the checker caught. Exit 0 only if the unbroken product is clean and every defect was caught by
 * an invariant named for it. Nothing in the working tree is changed.
 */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { formatReport, type Invariant } from "../check-history/report.ts";
import { type PostgresServer, startPostgres } from "../servers/postgres.ts";
import { type RunResult, run } from "./crash-run.ts";
import type { Fleet } from "./fleet.ts";
import { applyEdit, type Edit, type Mutation, mutations } from "./mutations.ts";
import { adversarialScenario } from "./scenario.ts";

const root = join(import.meta.dirname, "..", "..");
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The same faults for every mutant: stops beyond and within a lease, kills, a restart. */
async function faults(fleet: Fleet): Promise<void> {
  const worker = (slot: number) => {
    const found = fleet.workers.find((one) => one.slot === slot);
    if (found === undefined) throw new Error(`worker ${slot} is not running`);
    return found.running;
  };
  await pause(1200);
  const first = fleet.stopFor(worker(0), 2200);
  await pause(700);
  fleet.kill(1, worker(1));
  await pause(900);
  await fleet.stopFor(worker(2), 350);
  await first;
  await fleet.restart(200);
  await pause(900);
  const second = fleet.stopFor(worker(2), 1800);
  await pause(500);
  fleet.kill(0, worker(0));
  await second;
  await pause(500);
}

/** A copy of the packages and of this folder, so that work going on in the tree does not reach a run. Other modules are the real ones. */
class Copy {
  readonly folder: string = mkdtempSync(join(tmpdir(), "crash-run-mutants-"));

  constructor() {
    for (const name of ["core", "queue"])
      cpSync(join(root, "packages", name), join(this.folder, "packages", name), {
        recursive: true,
        filter: (source) => !/[\\/](dist|node_modules|test)$/.test(source),
      });
    cpSync(import.meta.dirname, this.sources, { recursive: true });
    writeFileSync(join(this.folder, "package.json"), '{ "private": true, "type": "module" }\n');
    const modules = join(this.folder, "node_modules");
    mkdirSync(join(modules, "@sluice"), { recursive: true });
    for (const name of readdirSync(join(root, "node_modules")))
      if (name !== "@sluice" && !name.startsWith("."))
        symlinkSync(join(root, "node_modules", name), join(modules, name));
    for (const name of ["core", "queue"])
      symlinkSync(join(this.folder, "packages", name), join(modules, "@sluice", name));
  }

  get sources(): string {
    return join(this.folder, "tools", "crash-run");
  }

  path(edit: Edit): string {
    return join(this.folder, "packages", "queue", "src", edit.file);
  }

  /** The defective text of a file; undefined when the text to replace is not there exactly once. */
  mutate(edit: Edit): string | undefined {
    return applyEdit(readFileSync(this.path(edit), "utf8"), edit);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function execute(database: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: database });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** Where mutants live. */
interface Stage {
  readonly server: PostgresServer;
  readonly copy: Copy;
  /** What the unbroken product violates: no defect is caught by that. */
  readonly broken: ReadonlySet<Invariant>;
}

/** Runs the scenario on a database of its own, with the edits in place. */
async function runWith({ server, copy }: Stage, name: string, edits: readonly Edit[]): Promise<RunResult> {
  await execute(server.url, `CREATE DATABASE ${name}`);
  const database = server.url.replace(/\/postgres$/, `/${name}`);
  const routines = edits.filter((edit) => edit.file.endsWith(".sql"));
  const sources = edits.filter((edit) => !edit.file.endsWith(".sql"));
  const whole = sources.map((edit) => ({
    path: copy.path(edit),
    text: readFileSync(copy.path(edit), "utf8"),
  }));
  const sql = routines.map((edit) => copy.mutate(edit)).join("\n");
  for (const edit of sources) writeFileSync(copy.path(edit), copy.mutate(edit) as string);
  try {
    return await run({
      server,
      database,
      scenario: adversarialScenario,
      seed: 7,
      workers: 3,
      load: 1,
      faults,
      restMs: 8000,
      sources: copy.sources,
      prepare: () => execute(database, `SET search_path TO sluice;\n${sql}`),
    });
  } finally {
    for (const { path, text } of whole) writeFileSync(path, text);
    await execute(server.url, `DROP DATABASE ${name} WITH (FORCE)`);
  }
}

const violated = ({ report }: RunResult): Invariant[] =>
  [...report.verdicts].flatMap(([name, verdict]) => (verdict.count > 0 ? [name] : []));

const stale = (copy: Copy, mutation: Mutation): Edit | undefined =>
  mutation.edits.find((edit) => copy.mutate(edit) === undefined);

/** Judges one defect; resolves to whether it was caught as it should be. */
async function judge(stage: Stage, mutation: Mutation, index: number): Promise<boolean> {
  const began = performance.now();
  const say = (verdict: string, detail: string): void =>
    console.log(`${verdict.padEnd(9)} ${mutation.name.padEnd(62)} ${detail}`);
  const missing = stale(stage.copy, mutation);
  if (missing !== undefined) {
    say("STALE", `its text is not found once in ${missing.file}`);
    return false;
  }
  const result = await runWith(stage, `mutant${index}`, mutation.edits);
  const by = violated(result).filter((name) => !stage.broken.has(name));
  const caught = by.some((name) => mutation.caughtBy.includes(name));
  const seconds = `${((performance.now() - began) / 1000).toFixed(0)} s`;
  const found = by.length === 0 ? "nothing" : by.join(" ");
  say(caught ? "caught" : "SURVIVED", `${found}; expected ${mutation.caughtBy.join(" or ")}; ${seconds}`);
  if (caught) rmSync(result.directory, { recursive: true });
  else console.log(`          logs: ${result.directory}`);
  return caught;
}

async function judgeAll(chosen: readonly Mutation[]): Promise<number> {
  const server = await startPostgres();
  const copy = new Copy();
  try {
    const control = await runWith({ server, copy, broken: new Set() }, "control", []);
    const broken = new Set(violated(control));
    if (broken.size === 0) {
      console.log(`clean     the unbroken product: ${control.summary}`);
      rmSync(control.directory, { recursive: true });
    } else {
      console.log(`UNCLEAN   the unbroken product; what it breaks itself catches no defect\n`);
      console.log(`${formatReport(control.report)}\nlogs: ${control.directory}\n`);
    }
    let caught = 0;
    for (const [index, mutation] of chosen.entries())
      if (await judge({ server, copy, broken }, mutation, index)) caught += 1;
    console.log(`${caught} of ${chosen.length} defects caught`);
    return caught === chosen.length && broken.size === 0 ? 0 : 1;
  } finally {
    copy.remove();
    await server.stop();
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { only: { type: "string", default: "" }, list: { type: "boolean", default: false } },
  });
  const chosen = mutations.filter((mutation) => mutation.name.includes(values.only));
  if (!values.list) return judgeAll(chosen);
  const copy = new Copy();
  for (const mutation of chosen)
    console.log(`${stale(copy, mutation) === undefined ? "ready" : "STALE"} ${mutation.name}`);
  copy.remove();
  return 0;
}

process.exit(await main());
