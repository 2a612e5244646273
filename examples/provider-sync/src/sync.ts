/**
 * The application itself: nine durable workflows, three rate-limited queues.
 *
 * A queue for each data type carries the limit of the API; inside a queue, each provider is a partition with one
 * request at a time. The limit holds over all partitions, all worker processes and all restarts.
 */

import type { Sluice, TaskContext } from "@sluice/queue";
import type { Page, PageRequest, ProviderApi } from "./provider-api.ts";
import { dataTypes, providers, queueName, rateText } from "./providers.ts";

// As long as a queue keeps finished tasks by default: a run continued within a week finds its work, not a second one.
const idempotencyKeepMs = 7 * 24 * 3_600_000;

/** What a workflow is asked: sync one data type of one provider, in so many requests. */
interface Pair {
  readonly provider: string;
  readonly dataType: string;
  readonly requests: number;
}

/** How the work ended. */
export interface SyncOutcome {
  /** Requests whose task succeeded. */
  readonly succeeded: number;
  /** One line for each workflow or request that failed for good. */
  readonly failures: readonly string[];
}

/** The application, declared on an open Sluice. */
export interface ProviderSync {
  /** Requests done so far, by queue. */
  done(): Promise<Record<string, number>>;
  /**
   * Submits the nine workflows, so many requests each. May be called again after any crash: what is there already is
   * not added twice.
   * @throws SluiceError `idempotency_conflict` when they are there with another number of requests.
   */
  submit(requests: number): Promise<void>;
  /** Resolves when every request of every workflow has ended, in this process or another. */
  finished(): Promise<SyncOutcome>;
}

/** Declares queues and tasks. Nothing runs until `app.work()`. */
export function declareSync(app: Sluice, api: ProviderApi): ProviderSync {
  // A queue for each data type. Its rate holds over all partitions; in a partition one request runs at a time.
  const queues = dataTypes.map((dataType) =>
    app.queue(queueName(dataType), {
      rate: rateText(dataType),
      guardMs: dataType.guardMs,
      partition: { concurrency: 1 },
    }),
  );

  // One request. The task id is its Idempotency-Key: a second attempt is the same request to the API.
  const fetchPage = (page: PageRequest, ctx: TaskContext): Promise<Page> =>
    api.page(page, ctx.id, ctx.signal);
  app.task("fetch-page", fetchPage, { timeoutMs: 10_000 });

  // One workflow. What it enqueues is enqueued once, however often it is started again.
  const workflows = app.queue("workflows");
  const syncPair = app.task("sync-pair", async (pair: Pair, ctx): Promise<string[]> => {
    const { provider, dataType, requests } = pair;
    const ids: string[] = [];
    for (let number = 1; number <= requests; number += 1) {
      const page: PageRequest = { provider, dataType, number };
      const { id } = await ctx.enqueue(queueName(dataType), "fetch-page", page, { partition: provider });
      ids.push(id);
    }
    return ids;
  });

  let workflowIds: string[] = [];
  return {
    async done() {
      const counts = queues.map(async (queue) => [queue.name, (await queue.stats()).succeeded] as const);
      return Object.fromEntries(await Promise.all(counts));
    },
    async submit(requests) {
      const pairs = dataTypes.flatMap(({ name }) =>
        providers.map((provider) => ({ provider, dataType: name, requests })),
      );
      const items = pairs.map((input) => {
        const idempotencyKey = `sync ${input.provider} ${input.dataType}`;
        return { task: syncPair, input, idempotencyKey, idempotencyKeepMs };
      });
      workflowIds = (await workflows.enqueueMany(items)).map(({ id }) => id);
    },
    finished: () => outcomeOf(app, workflowIds),
  };
}

/** Waits for the workflows, then for what they enqueued; a task that failed for good does not end the wait for others. */
async function outcomeOf(app: Sluice, workflowIds: readonly string[]): Promise<SyncOutcome> {
  const workflows = await Promise.allSettled(workflowIds.map((id) => app.result(id)));
  const pageIds = workflows.flatMap((ended) =>
    ended.status === "fulfilled" ? (ended.value as string[]) : [],
  );
  const pages = await Promise.allSettled(pageIds.map((id) => app.result(id)));
  const failed = [...workflows, ...pages].filter((ended) => ended.status === "rejected");
  return {
    succeeded: pages.filter((ended) => ended.status === "fulfilled").length,
    failures: failed.map(({ reason }) => (reason instanceof Error ? reason.message : String(reason))),
  };
}
