/** The command line of the demo: what may be said, and one clear sentence for everything else. */

import { parseArgs } from "node:util";
import { requestsPerPair } from "./providers.ts";

/** What a run of the demo is asked to do. */
export interface DemoOptions {
  /** SIGKILL a worker process three times on the way and start it again. Default false. */
  readonly crash: boolean;
  /** Print one JSON object on standard output, and everything for people on standard error. Default false. */
  readonly json: boolean;
  /** Worker processes, 1 to 16. More than one needs PostgreSQL. Default 1. */
  readonly workers: number;
  /** Requests for each provider/data-type pair, 1 to 100. Default 5. */
  readonly requests: number;
  /** Where the work is stored. Default a temporary directory, removed after a clean run. */
  readonly store: StoreChoice;
}

/** The embedded database in a directory, or a schema of a PostgreSQL server. Without a name, a fresh one is made. */
export type StoreChoice =
  | { readonly engine: "embedded"; readonly dataDir?: string }
  | { readonly engine: "postgres"; readonly url: string; readonly schema?: string };

/** What the command line asks for: a run, or the usage text. */
export type DemoCommand =
  | { readonly kind: "run"; readonly options: DemoOptions }
  | { readonly kind: "help"; readonly text: string };

/** The command line or the environment asks for something the demo cannot do. Exit code 2. */
export class UsageError extends Error {
  readonly code = "invalid_option";
  override readonly name = "UsageError";
}

const optionSpec = {
  crash: { type: "boolean" },
  workers: { type: "string" },
  requests: { type: "string" },
  "data-dir": { type: "string" },
  schema: { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** The usage text; `command` is how this program was called, such as `npm run demo --`. */
export function usage(command: string): string {
  return `Usage: ${command} [options]

Nine workflows send ${9 * requestsPerPair} requests through three rate-limited queues into an API
that refuses one request too many with 429. Exit code 0 only if none was
refused, the whole budget was used and order was kept.

  --crash          SIGKILL the worker process three times on the way
  --workers N      N worker processes (1 to 16) on PostgreSQL: DATABASE_URL
  --data-dir DIR   keep the embedded database in DIR; a run that was killed or
                   stopped continues from there
  --schema NAME    the same on PostgreSQL: keep the work in this schema
  --requests N     requests for each provider and data type (1 to 100; ${requestsPerPair})
  --json           one JSON object on standard output, all else on stderr
  -h, --help       this text
`;
}

/**
 * Reads the command line.
 *
 * @throws {UsageError} on an unknown option, a value out of bounds, or several workers without `DATABASE_URL`.
 */
export function parseCommand(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  command: string,
): DemoCommand {
  const values = parse(argv);
  if (values.help === true) return { kind: "help", text: usage(command) };
  const workers = wholeNumber("--workers", values.workers, 1, { min: 1, max: 16 });
  const requests = wholeNumber("--requests", values.requests, requestsPerPair, { min: 1, max: 100 });
  const store = storeChoice(values, workers, environment["DATABASE_URL"]);
  const { crash = false, json = false } = values;
  return { kind: "run", options: { crash, json, workers, requests, store } };
}

type Values = ReturnType<typeof parseArgs<{ options: typeof optionSpec }>>["values"];

function parse(argv: readonly string[]): Values {
  try {
    return parseArgs({ args: [...argv], options: optionSpec, strict: true, allowPositionals: false }).values;
  } catch (cause) {
    // The texts of parseArgs go on with advice about "--"; its first sentence says what is wrong.
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(text.split(". ")[0]!, { cause });
  }
}

function wholeNumber(
  option: string,
  given: string | undefined,
  fallback: number,
  bounds: { readonly min: number; readonly max: number },
): number {
  if (given === undefined) return fallback;
  const value = Number(given);
  if (/^\d+$/.test(given) && value >= bounds.min && value <= bounds.max) return value;
  throw new UsageError(
    `${option} takes a whole number from ${bounds.min} to ${bounds.max}, got ${JSON.stringify(given)}`,
  );
}

function storeChoice(values: Values, workers: number, databaseUrl: string | undefined): StoreChoice {
  const { schema, "data-dir": dataDir } = values;
  const url = databaseUrl === undefined || databaseUrl === "" ? undefined : databaseUrl;
  if (dataDir === "") throw new UsageError("--data-dir takes the path of a directory, got nothing");
  if (schema !== undefined && !/^[a-z_][a-z0-9_]{0,39}$/.test(schema)) {
    throw new UsageError("--schema takes a name of lower-case letters, digits and _, at most 40 characters");
  }
  const wantsPostgres = schema !== undefined || (values.workers !== undefined && url !== undefined);
  if (wantsPostgres && dataDir !== undefined) {
    throw new UsageError("--data-dir is for the embedded database; on PostgreSQL use --schema NAME");
  }
  if (wantsPostgres && url !== undefined)
    return { engine: "postgres", url, ...(schema !== undefined && { schema }) };
  if (wantsPostgres || workers > 1) {
    const wish = schema === undefined ? `--workers ${workers}` : "--schema";
    throw new UsageError(
      `${wish} needs PostgreSQL, because one process at a time can open the embedded database: ` +
        "set DATABASE_URL, for example DATABASE_URL=postgres://postgres@localhost:5432/postgres",
    );
  }
  return { engine: "embedded", ...(dataDir !== undefined && { dataDir }) };
}
