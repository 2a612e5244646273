import { DBOS, DBOSClient } from "@dbos-inc/dbos-sdk";
import { Pool } from "pg";
import {
  type Engine,
  type EngineOptions,
  eachInFlight,
  type Handler,
  type Item,
  type Peer,
  poolSize,
} from "./peer.ts";

/**
 * DBOS. Items are workflows without steps, enqueued through its client. The variant is the queue's polling interval
 * in milliseconds ("100", "10"); default: DBOS's own, one second. Setting any limit per partition is what makes a
 * DBOS queue partitioned, so rows with lanes and without a lane limit set a partition concurrency that never binds.
 */
const queueName = "bench";
const workflowName = "bench";
const quiet = { info: () => {}, debug: () => {}, warn: () => {}, error: () => {} };
const bulkInFlight = 64;

/** Whether tasks of this row carry a partition key. */
function partitioned(options: EngineOptions): boolean {
  return options.lanes === true;
}

function seconds(budget: { readonly limit: number; readonly periodMs: number }): {
  limitPerPeriod: number;
  periodSec: number;
} {
  return { limitPerPeriod: budget.limit, periodSec: budget.periodMs / 1000 };
}

async function startWorker(options: EngineOptions, handler: Handler): Promise<void> {
  DBOS.setConfig({
    name: "bench",
    systemDatabaseUrl: options.url,
    systemDatabasePoolSize: poolSize,
    applicationVersion: "1",
    executorID: `worker-${process.pid}`,
    logger: quiet,
  });
  DBOS.registerWorkflow(async (n: number, lane: number) => handler({ n, lane }), { name: workflowName });
  await DBOS.launch();
  await DBOS.registerQueue(queueName, {
    ...(options.variant ? { minPollingIntervalMs: Number(options.variant) } : {}),
    ...(options.concurrency ? { workerConcurrency: options.concurrency } : {}),
    ...(options.rate ? { rateLimit: seconds(options.rate) } : {}),
    ...(options.laneRate ? { partitionRateLimit: seconds(options.laneRate) } : {}),
    ...(partitioned(options) ? { partitionConcurrency: options.laneConcurrency ?? 1_000 } : {}),
  });
}

class DbosEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #client: DBOSClient;
  readonly #pool: Pool;
  #working = false;

  constructor(options: EngineOptions, client: DBOSClient, pool: Pool) {
    this.#options = options;
    this.#client = client;
    this.#pool = pool;
  }

  async enqueue(item: Item): Promise<void> {
    const lane = partitioned(this.#options) ? { queuePartitionKey: `p${item.lane}` } : {};
    await this.#client.enqueue({ queueName, workflowName, ...lane }, item.n, item.lane);
  }

  /** DBOS has no bulk enqueue: the nearest is many at once. */
  async enqueueMany(items: readonly Item[]): Promise<void> {
    await eachInFlight(items, bulkInFlight, (item) => this.enqueue(item));
  }

  async work(handler: Handler): Promise<void> {
    this.#working = true;
    await startWorker(this.#options, handler);
  }

  async busy(): Promise<boolean> {
    const { rows } = await this.#pool.query(
      "SELECT EXISTS (SELECT 1 FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')) AS busy",
    );
    return rows[0].busy;
  }

  async close(): Promise<void> {
    if (this.#working) await DBOS.shutdown();
    await this.#client.destroy();
    await this.#pool.end();
  }
}

/** DBOS as a peer. */
export const dbos: Peer = {
  store: "postgres",
  packageName: "@dbos-inc/dbos-sdk",
  async install(options) {
    await DBOS.migrate(options.url);
  },
  async open(options) {
    const client = await DBOSClient.create({
      systemDatabaseUrl: options.url,
      systemDatabasePoolSize: poolSize,
      applicationName: "bench",
      logger: quiet,
    });
    return new DbosEngine(options, client, new Pool({ connectionString: options.url, max: 2 }));
  },
};
