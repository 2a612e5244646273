/** How the rows of Sluice declare their queue. Apart from the adapter, so that a suite can use it without the engine. */
import type { sluice } from "@sluice/queue";
import type { Budget } from "../harness/windows.ts";
import type { EngineOptions } from "./peer.ts";

/** An open Sluice. */
export type App = Awaited<ReturnType<typeof sluice>>;
/** What a queue can be declared with. */
export type QueueSettings = NonNullable<Parameters<App["queue"]>[1]>;

/** Name of the queue of every row. */
export const queueName = "bench";
/** Name of its task. */
export const taskName = "bench";

function rateText(budget: Budget): string {
  return `${budget.limit}/${budget.periodMs}ms`;
}

/** The definition of the queue of a row. */
export function queueSettings(options: EngineOptions): QueueSettings {
  const partition = {
    ...(options.laneConcurrency ? { concurrency: options.laneConcurrency } : {}),
    ...(options.laneRate ? { rate: rateText(options.laneRate) } : {}),
  };
  return {
    ...(options.rate ? { rate: rateText(options.rate) } : {}),
    ...(Object.keys(partition).length > 0 ? { partition } : {}),
  };
}
