/** Declares a scenario's queues to the product. */
import { type Queue, type Sluice, sluice } from "@sluice/queue";
import type { RatePolicy } from "../check-history/history.ts";
import type { Scenario } from "./scenario.ts";

const rateText = (rate: RatePolicy): string => `${rate.limit}/${rate.periodUs / 1000}ms`;

/** Opens the product on a database. */
export function openApp(database: string): Promise<Sluice> {
  return sluice({ database });
}

/** The scenario's queues, declared. */
export function declareQueues(app: Sluice, scenario: Scenario): Map<string, Queue> {
  return new Map(
    scenario.queues.map((queue) => [
      queue.name,
      app.queue(queue.name, {
        maxAttempts: scenario.maxAttempts,
        backoff: { ...scenario.backoff, jitter: 0.5 },
        ...(queue.rate !== null && {
          rate: rateText(queue.rate),
          burst: queue.rate.burst,
          guardMs: queue.rate.guardUs / 1000,
        }),
        ...(queue.concurrency !== null && { concurrency: queue.concurrency }),
        partition: {
          ...(queue.partitionConcurrency !== null && { concurrency: queue.partitionConcurrency }),
          ...(queue.partitionRate !== null && {
            rate: rateText(queue.partitionRate),
            burst: queue.partitionRate.burst,
          }),
        },
      }),
    ]),
  );
}
