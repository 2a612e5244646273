/** What a benchmark gets and what it gives. */
import { Child } from "../harness/children.ts";
import type { OpenCall } from "../harness/engine-process.ts";
import type { Row, Table } from "../harness/report.ts";
import type { Servers } from "../harness/servers.ts";
import type { EngineOptions } from "../peers/peer.ts";
import { type PeerName, redisPeers } from "../peers/peers.ts";

/** Settings of a run, from the command line. */
export interface Settings {
  /** Small counts and short times: to see that everything works, not to quote. */
  readonly quick: boolean;
  /** Engines to measure. */
  readonly only: readonly PeerName[];
  /** Length of a timed run in seconds, if given. */
  readonly seconds: number | undefined;
  /** Repetitions of a short run, if given. */
  readonly runs: number | undefined;
  /** Worker processes of `accuracy`. */
  readonly workers: number;
  /** Rates of `accuracy`, if given. */
  readonly rates: readonly string[] | undefined;
  /** Parts of `limit`, if given. */
  readonly parts: readonly string[] | undefined;
}

/** One benchmark. */
export interface Suite {
  readonly description: string;
  run(context: Context): Promise<Table[]>;
}

/** What a benchmark works with. */
export interface Context {
  readonly settings: Settings;
  readonly servers: Servers;
  /** Says on stderr what is being measured now. */
  readonly say: (line: string) => void;
}

/** A row's engine and settings; `url` is filled in per row. */
export interface Subject {
  readonly label: string;
  readonly peer: PeerName;
  readonly options: Omit<EngineOptions, "url">;
}

/** An empty store for the subject, installed. */
export async function freshStore(context: Context, subject: Subject): Promise<OpenCall> {
  const redis = redisPeers.includes(subject.peer);
  const url = redis ? (context.servers.redisUrl as string) : await context.servers.freshDatabase();
  const call: OpenCall = { peer: subject.peer, options: { ...subject.options, url } };
  await withChild("engine-process.ts", (child) => child.call("install", call, 60_000));
  return call;
}

/** Runs `work` with a child process and ends the child, whatever happens. */
export async function withChild<T>(program: string, work: (child: Child) => Promise<T>): Promise<T> {
  const child = new Child(program);
  try {
    return await work(child);
  } finally {
    await child.end();
  }
}

/** Opens the engine in a child process for the time of `work`. */
export function withEngine<T>(call: OpenCall, work: (child: Child) => Promise<T>): Promise<T> {
  return withChild("engine-process.ts", async (child) => {
    await child.call("open", call, 60_000);
    return await work(child);
  });
}

/** Measures one row: an engine whose server is missing is skipped aloud, an error becomes the row's text. */
export async function measureRow(
  context: Context,
  subject: { readonly label: string; readonly peer?: PeerName },
  measure: () => Promise<Omit<Row, "failure">>,
): Promise<Row> {
  const cells = { engine: subject.label };
  if (subject.peer !== undefined && redisPeers.includes(subject.peer) && !context.servers.redisUrl) {
    const failure = "SKIPPED: no redis-server or valkey-server on PATH or in REDIS_SERVER_BIN";
    context.say(`${subject.label}: ${failure}`);
    return { cells, failure };
  }
  context.say(subject.label);
  try {
    const row = await measure();
    return { ...row, cells: { ...cells, ...row.cells } };
  } catch (error) {
    const failure = `FAILED: ${error instanceof Error ? error.message : String(error)}`;
    context.say(`${subject.label}: ${failure}`);
    return { cells, failure };
  }
}
