import { PgBoss } from "pg-boss";
import { type Engine, type EngineOptions, type Handler, type Item, type Peer, poolSize } from "./peer.ts";

/**
 * pg-boss. Its queue has `notify` on, so an idle worker is woken by NOTIFY. Variants: "batch-1000" (default: a
 * worker that fetches 1000 at a time and goes on while batches are full) and "batch-100x4" (100 at a time in four
 * loops); both settle a batch in one statement. "single" fetches one job at a time.
 */
const name = "bench";
const workers = {
  "batch-1000": { batchSize: 1000, burstWhenBatchFull: true },
  "batch-100x4": { batchSize: 100, localConcurrency: 4, burstWhenBatchFull: true },
  single: {},
} as const;

function newBoss(options: EngineOptions): PgBoss {
  const boss = new PgBoss({
    connectionString: options.url,
    max: poolSize,
    schedule: false,
    useListenNotify: true,
    monitorVacuum: false,
  });
  boss.on("error", (error) => process.stderr.write(`pg-boss: ${error.message}\n`));
  return boss;
}

class PgBossEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #boss: PgBoss;

  constructor(options: EngineOptions, boss: PgBoss) {
    this.#options = options;
    this.#boss = boss;
  }

  async enqueue(item: Item): Promise<void> {
    await this.#boss.send(name, item);
  }

  async enqueueMany(items: readonly Item[]): Promise<void> {
    await this.#boss.insert(
      name,
      items.map((data) => ({ data })),
    );
  }

  async work(handler: Handler): Promise<void> {
    const settings = workers[(this.#options.variant ?? "batch-1000") as keyof typeof workers];
    await this.#boss.work<Item>(name, { ...settings, pollingIntervalSeconds: 0.5 }, async (jobs) => {
      for (const job of jobs) await handler(job.data);
    });
  }

  async busy(): Promise<boolean> {
    const { rows } = await this.#boss
      .getDb()
      .executeSql(
        "SELECT EXISTS (SELECT 1 FROM pgboss.job WHERE name = $1 AND state < 'completed') AS busy",
        [name],
      );
    return rows[0].busy;
  }

  async close(): Promise<void> {
    await this.#boss.stop({ graceful: true, timeout: 2_000 });
  }
}

/** pg-boss as a peer. */
export const pgBoss: Peer = {
  store: "postgres",
  packageName: "pg-boss",
  async install(options) {
    const boss = newBoss(options);
    await boss.start();
    await boss.createQueue(name, { notify: true });
    await boss.stop({ graceful: false });
  },
  async open(options) {
    const boss = newBoss(options);
    await boss.start();
    return new PgBossEngine(options, boss);
  },
};
