import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import type { Engine, EngineOptions, Handler, Item, Peer } from "./peer.ts";

/** BullMQ on Redis. Jobs are removed when complete, as graphile-worker does. Its open source has no partitions. */
const queueName = "bench";
const keep = { removeOnComplete: true, removeOnFail: 1_000 };

function connect(url: string): Redis {
  const redis = new Redis(url, { maxRetriesPerRequest: null });
  redis.on("error", (error) => process.stderr.write(`redis: ${error.message}\n`));
  return redis;
}

class BullEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #redis: Redis;
  readonly #queue: Queue;
  #worker: Worker | undefined;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#redis = connect(options.url);
    this.#queue = new Queue(queueName, { connection: this.#redis, defaultJobOptions: keep });
  }

  async ready(): Promise<this> {
    await this.#queue.waitUntilReady();
    return this;
  }

  async enqueue(item: Item): Promise<void> {
    await this.#queue.add("bench", item);
  }

  async enqueueMany(items: readonly Item[]): Promise<void> {
    await this.#queue.addBulk(items.map((data) => ({ name: "bench", data })));
  }

  async work(handler: Handler): Promise<void> {
    const { rate } = this.#options;
    this.#worker = new Worker(queueName, async (job) => handler(job.data as Item), {
      connection: this.#redis,
      concurrency: this.#options.concurrency ?? 200,
      ...(rate ? { limiter: { max: rate.limit, duration: rate.periodMs } } : {}),
    });
    this.#worker.on("error", (error) => process.stderr.write(`bullmq: ${error.message}\n`));
    await this.#worker.waitUntilReady();
  }

  async busy(): Promise<boolean> {
    const counts = await this.#queue.getJobCounts("wait", "active", "delayed", "prioritized");
    return Object.values(counts).some((count) => count > 0);
  }

  async close(): Promise<void> {
    await this.#worker?.close();
    await this.#queue.close();
    this.#redis.disconnect();
  }
}

/** BullMQ as a peer. */
export const bullmq: Peer = {
  store: "redis",
  packageName: "bullmq",
  async install(options) {
    const redis = connect(options.url);
    await redis.flushall();
    redis.disconnect();
  },
  async open(options) {
    return new BullEngine(options).ready();
  },
};
