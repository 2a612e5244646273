/**
 * What the benchmarks ask of an engine, ours and the others alike. One adapter per engine; an adapter only
 * translates, so that what is measured is the engine with the settings its row names.
 */
import type { Budget } from "../harness/windows.ts";

/** One unit of work: its number, and the lane (partition) it belongs to. */
export interface Item {
  readonly n: number;
  readonly lane: number;
}

/** Runs one item; the engine counts it done when the promise resolves. */
export type Handler = (item: Item) => void | Promise<void>;

/** How an engine is to be set up for one row. */
export interface EngineOptions {
  /** Where its store is: a PostgreSQL or Redis URL, empty and of its own. */
  readonly url: string;
  /** A named setting of the adapter, such as "batched". Default: the engine's best for what is measured. */
  readonly variant?: string;
  /** Handlers that may run at once in one worker process. */
  readonly concurrency?: number;
  /** Starts per period over all worker processes. */
  readonly rate?: Budget;
  /** Tasks name a lane. False for engines and rows without partitions. */
  readonly lanes?: boolean;
  /** Starts per period of each lane. */
  readonly laneRate?: Budget;
  /** Tasks of one lane that may run at once. */
  readonly laneConcurrency?: number;
}

/** An engine, open in this process. */
export interface Engine {
  /** Makes one item durable. */
  enqueue(item: Item): Promise<void>;
  /** Makes several items durable by the engine's own means for that. */
  enqueueMany(items: readonly Item[]): Promise<void>;
  /** Starts working; resolves when the worker is up. */
  work(handler: Handler): Promise<void>;
  /** Whether the store knows of work that is not done. Asked only after the last handler has run. */
  busy(): Promise<boolean>;
  /** Stops working if it did, and lets go of the store. */
  close(): Promise<void>;
}

/** An engine that can be benchmarked. */
export interface Peer {
  readonly store: "postgres" | "redis" | "none";
  /** Name of the npm package, for the version in the header; undefined for ours and for bare SQL. */
  readonly packageName?: string;
  /** Creates what the store must hold before any process uses it. Called once per row. */
  install(options: EngineOptions): Promise<void>;
  /** Opens the engine in this process. */
  open(options: EngineOptions): Promise<Engine>;
}

/** Connections each PostgreSQL engine may open in one process, the same for all that let it be set. */
export const poolSize = 20;

/** Runs `send` for each item with at most `inFlight` at once. */
export async function eachInFlight(
  items: readonly Item[],
  inFlight: number,
  send: (item: Item) => Promise<void>,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) await send(items[next++] as Item);
  };
  await Promise.all(Array.from({ length: Math.min(inFlight, items.length) }, lane));
}
