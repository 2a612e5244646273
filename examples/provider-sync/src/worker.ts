/**
 * A worker process of the demo. Its parent says where the work is stored and where the API is; the worker opens the
 * queues, submits the workflows (all workers do, it counts once) and works until it is told to stop, or is killed.
 */

import { isSluiceError } from "@sluice/core";
import { type AttemptRef, type Sluice, sluice } from "@sluice/queue";
import { embedded } from "@sluice/queue/embedded";
import { providerApi } from "./provider-api.ts";
import { declareSync, type SyncOutcome } from "./sync.ts";

/** Where the work is stored. */
export type StorePlace =
  | { readonly engine: "embedded"; readonly dataDir: string }
  | { readonly engine: "postgres"; readonly url: string; readonly schema: string };

/** What a worker needs to know to begin. */
export interface WorkerSetup {
  /** How the worker introduces itself to the API. */
  readonly caller: string;
  readonly store: StorePlace;
  readonly apiUrl: string;
  /** Requests for each provider/data-type pair. */
  readonly requests: number;
}

/** What the parent says to a worker: begin (first), and stop (last). */
export type WorkerOrder = ({ readonly kind: "begin" } & WorkerSetup) | { readonly kind: "stop" };

/** What a worker says to its parent. */
export type WorkerMessage =
  /** It works from now on; by queue, what had been done before. */
  | { readonly kind: "working"; readonly done: Readonly<Record<string, number>> }
  | { readonly kind: "finished"; readonly outcome: SyncOutcome }
  | { readonly kind: "note"; readonly text: string }
  | { readonly kind: "fatal"; readonly code: string; readonly message: string };

// A worker that dies is replaced at once, so the rest of its lease is the only wait; short is good enough here.
const leaseMs = 5_000;

const tell = (message: WorkerMessage): void => {
  if (process.connected) process.send?.(message);
};

// Ctrl-C reaches every process of the terminal; the parent decides how a worker ends. Without a parent there is
// nobody to work for: leaving at any instant is safe, that is what the demo shows.
process.on("SIGINT", () => {});
process.on("disconnect", () => process.exit(1));
process.on("SIGTERM", () => process.exit(1));

let app: Sluice | undefined;

async function begin(order: WorkerSetup): Promise<void> {
  app = await open(order.store);
  tellNotes(app);
  const api = providerApi(order.apiUrl, order.caller);
  const sync = declareSync(app, api);
  await api.connect();
  const done = await sync.done();
  await app.work({ leaseMs });
  tell({ kind: "working", done });
  await sync.submit(order.requests);
  tell({ kind: "finished", outcome: await sync.finished() });
}

async function open(store: StorePlace): Promise<Sluice> {
  if (store.engine === "embedded") return sluice({ database: embedded(store.dataDir) });
  return sluice({ database: store.url, schema: store.schema });
}

/** What does not fail the run but explains its figures. */
function tellNotes(app: Sluice): void {
  const note = (text: string): void => tell({ kind: "note", text });
  const place = (task: AttemptRef): string => `${task.queue} ${task.partition}`;
  app.on("late", ({ task, byUs }) => {
    note(`${place(task)}: a start was given back, up to ${(byUs / 1000).toFixed(1)} ms late`);
  });
  app.on("failure", ({ task, error, retryInMs }) => {
    note(`${place(task)}: ${error.message}; again in ${Math.round(retryInMs)} ms`);
  });
  app.on("dead", ({ task, error }) => note(`${place(task)}: failed for good: ${error.message}`));
  app.on("stale", ({ queue }) => note(`${queue}: an attempt ended after its lease had been taken away`));
  app.on("lease-lost", ({ running }) => note(`a worker lost its lease while ${running} tasks ran`));
  app.on("error", ({ error, during }) => {
    note(`${during}: ${error instanceof Error ? error.message : String(error)}`);
  });
}

async function stop(): Promise<void> {
  await app?.close();
  process.exit(0);
}

function fail(error: unknown): void {
  const code = isSluiceError(error) ? error.code : "internal";
  const message: WorkerMessage = {
    kind: "fatal",
    code,
    message: error instanceof Error ? error.message : String(error),
  };
  // The exit waits for the message to be on its way.
  if (process.connected) process.send?.(message, undefined, undefined, () => process.exit(1));
  else process.exit(1);
}

process.on("message", (order: WorkerOrder) => {
  (order.kind === "begin" ? begin(order) : stop()).catch(fail);
});
