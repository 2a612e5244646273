import { Logger, makeWorkerUtils, type Runner, run, type WorkerUtils } from "graphile-worker";
import { Pool } from "pg";
import { type Engine, type EngineOptions, type Handler, type Item, type Peer, poolSize } from "./peer.ts";

/**
 * graphile-worker. Variants: "batched" (default: local queue of 500, completions in batches, concurrency 24, the
 * settings of its own performance page that are fastest here) and "plain" (one claim and one completion per job).
 */
const logger = new Logger(() => () => {});
const task = "bench";

class GraphileEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #pool: Pool;
  readonly #utils: WorkerUtils;
  #runner: Runner | undefined;

  constructor(options: EngineOptions, pool: Pool, utils: WorkerUtils) {
    this.#options = options;
    this.#pool = pool;
    this.#utils = utils;
  }

  async enqueue(item: Item): Promise<void> {
    await this.#utils.addJob(task, item);
  }

  async enqueueMany(items: readonly Item[]): Promise<void> {
    await this.#utils.addJobs(items.map((payload) => ({ identifier: task, payload })));
  }

  async work(handler: Handler): Promise<void> {
    const batched = this.#options.variant !== "plain";
    this.#runner = await run({
      preset: {
        worker: {
          connectionString: this.#options.url,
          concurrentJobs: this.#options.concurrency ?? 24,
          maxPoolSize: poolSize,
          logger,
          ...(batched ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {}),
        },
      },
      taskList: { [task]: (payload: unknown) => handler(payload as Item) },
      noHandleSignals: true,
      crontab: "",
    });
  }

  async busy(): Promise<boolean> {
    const { rows } = await this.#pool.query(
      "SELECT EXISTS (SELECT 1 FROM graphile_worker._private_jobs) AS busy",
    );
    return rows[0].busy;
  }

  async close(): Promise<void> {
    await this.#runner?.stop();
    await this.#utils.release();
    await this.#pool.end();
  }
}

/** graphile-worker as a peer. */
export const graphileWorker: Peer = {
  store: "postgres",
  packageName: "graphile-worker",
  async install(options) {
    const utils = await makeWorkerUtils({ connectionString: options.url, logger });
    await utils.migrate();
    await utils.release();
  },
  async open(options) {
    const pool = new Pool({ connectionString: options.url, max: poolSize });
    const utils = await makeWorkerUtils({ pgPool: pool, logger });
    return new GraphileEngine(options, pool, utils);
  },
};
