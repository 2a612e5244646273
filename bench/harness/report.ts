/**
 * What a benchmark hands out: a header that says on what it ran, and tables. Printed as text, and as JSON for
 * machines. A row that could not be measured says so in its own line and is never left out.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { peerPackages } from "../peers/peers.ts";

/** A cell: numbers are printed with at most three significant decimals, undefined as a dash. */
export type Cell = string | number | undefined;

/** One line of a table; `note` is printed after it. A row with `failure` has no figures. */
export interface Row {
  readonly cells: Readonly<Record<string, Cell>>;
  readonly note?: string;
  /** Why there are no figures: "SKIPPED: …" or "FAILED: …". */
  readonly failure?: string;
}

/** A titled table. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly Row[];
  /** What the figures mean, one line each. */
  readonly legend?: readonly string[];
}

/** Everything one benchmark found. */
export interface Report {
  readonly bench: string;
  readonly quick: boolean;
  readonly header: Readonly<Record<string, string>>;
  readonly tables: readonly Table[];
}

function packageVersion(name: string): string {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

/** The machine, the run time and the versions. */
export function machineHeader(servers: Readonly<Record<string, string>>): Record<string, string> {
  const cores = cpus();
  return {
    date: new Date().toISOString(),
    machine: `${cores.length} x ${cores[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform} ${release()}`,
    "load before": loadavg()
      .map((load) => load.toFixed(1))
      .join(" "),
    "Node.js": process.version,
    ...servers,
    peers: peerPackages.map((name) => `${name} ${packageVersion(name)}`).join(", "),
  };
}

function text(cell: Cell): string {
  if (cell === undefined) return "-";
  if (typeof cell === "string") return cell;
  if (Number.isNaN(cell)) return "-";
  if (Number.isInteger(cell)) return grouped(cell);
  if (Math.abs(cell) >= 1000) return grouped(Math.round(cell));
  return Math.abs(cell) >= 100 ? cell.toFixed(1) : cell.toFixed(2);
}

/** 45 000, with the thin grouping that cannot be read as a decimal point. */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, " ");
}

/** Whether a column holds words rather than figures. */
function holdsWords(table: Table, column: string): boolean {
  return table.rows.every((row) => typeof row.cells[column] === "string");
}

/** The columns a row fills from the left: all, or those before its failure. */
function filled(table: Table, row: Row): readonly string[] {
  if (row.failure === undefined) return table.columns;
  const empty = table.columns.findIndex((column) => row.cells[column] === undefined);
  return empty === -1 ? table.columns : table.columns.slice(0, empty);
}

/** The table as lines of text: words to the left, figures to the right. */
export function tableText(table: Table): string {
  const widths = new Map<string, number>();
  for (const column of table.columns) {
    const shown = table.rows.filter((row) => filled(table, row).includes(column));
    const lengths = shown.map((row) => text(row.cells[column]).length);
    widths.set(column, Math.max(column.length, ...lengths));
  }
  const line = (columns: readonly string[], cellOf: (column: string) => string): string =>
    columns
      .map((column) => {
        const width = widths.get(column) as number;
        return holdsWords(table, column) ? cellOf(column).padEnd(width) : cellOf(column).padStart(width);
      })
      .join("  ");
  const rows = table.rows.map((row) => {
    const cells = line(filled(table, row), (column) => text(row.cells[column]));
    const after = row.failure ?? row.note;
    return after === undefined ? cells : `${cells}  ${after}`;
  });
  const head = line(table.columns, (column) => column);
  const rule = line(table.columns, (column) => "-".repeat(widths.get(column) as number));
  return [table.title, "", head, rule, ...rows, "", ...(table.legend ?? []), ""].join("\n");
}

/** The header as lines of text. */
export function headerText(header: Readonly<Record<string, string>>): string {
  return `${Object.entries(header)
    .map(([name, value]) => `${name.padEnd(12)} ${value}`)
    .join("\n")}\n`;
}

/** Writes the report to `results/NAME.json`, quick ones to `results/local/`; answers the file's name. */
export function writeReport(report: Report): string {
  const folder = new URL(report.quick ? "../results/local/" : "../results/", import.meta.url);
  mkdirSync(folder, { recursive: true });
  const file = new URL(`${report.bench}.json`, folder);
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
  return fileURLToPath(file);
}
