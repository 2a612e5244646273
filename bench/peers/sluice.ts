import { sluice } from "@sluice/queue";
import type { Engine, EngineOptions, Handler, Item, Peer } from "./peer.ts";
import { type App, queueName, queueSettings, taskName } from "./sluice-queue.ts";

type Queue = ReturnType<App["queue"]>;

/** Sluice itself, through its public interface only, default settings but those a row names. */
class SluiceEngine implements Engine {
  readonly #options: EngineOptions;
  readonly #app: App;
  readonly #queue: Queue;

  constructor(options: EngineOptions, app: App) {
    this.#options = options;
    this.#app = app;
    this.#queue = app.queue(queueName, queueSettings(options));
  }

  async enqueue(item: Item): Promise<void> {
    await this.#queue.enqueue(taskName, item, this.#options.lanes ? { partition: `p${item.lane}` } : {});
  }

  async enqueueMany(items: readonly Item[]): Promise<void> {
    const lanes = this.#options.lanes === true;
    await this.#queue.enqueueMany(
      items.map((input) => ({ task: taskName, input, ...(lanes ? { partition: `p${input.lane}` } : {}) })),
    );
  }

  async work(handler: Handler): Promise<void> {
    this.#app.task(taskName, async (input: unknown) => {
      await handler(input as Item);
    });
    this.#app.on("error", (error: unknown) => process.stderr.write(`sluice: ${String(error)}\n`));
    const { concurrency } = this.#options;
    await this.#app.work({ queues: [queueName], ...(concurrency ? { concurrency } : {}) });
  }

  async busy(): Promise<boolean> {
    const { waiting, running, scheduled } = await this.#queue.stats();
    return waiting + running + scheduled > 0;
  }

  async close(): Promise<void> {
    await this.#app.close();
  }
}

/** Sluice as one of the engines. */
export const sluicePeer: Peer = {
  store: "postgres",
  async install(options) {
    const app = await sluice({ database: options.url });
    app.queue(queueName, queueSettings(options));
    await app.close();
  },
  async open(options) {
    return new SluiceEngine(options, await sluice({ database: options.url }));
  },
};
