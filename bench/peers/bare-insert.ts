import { randomUUID } from "node:crypto";
import { Client } from "pg";
import type { Engine, Item, Peer } from "./peer.ts";
import { sluicePeer } from "./sluice.ts";

/**
 * The floor under bulk enqueue: one INSERT … SELECT unnest into a copy of Sluice's table of tasks, with its indexes,
 * columns and checks, and nothing else done. Can only enqueue.
 */
const insert = {
  name: "bare_insert",
  text: `INSERT INTO bare (id, lane_id, seq, queue_id, state, max_attempts, enqueued_us, name, input)
SELECT id, 1, seq, 1, 'w', 5, extract(epoch FROM clock_timestamp()) * 1000000, 'bench', input
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS given (id, seq, input)`,
};

/** A random id that begins with the time, as a task's does: where an id falls in the index is part of what an insert costs. */
function timedId(): string {
  const time = Date.now().toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`;
}

class BareInsert implements Engine {
  readonly #client: Client;
  #last = 0;

  constructor(client: Client) {
    this.#client = client;
  }

  enqueue(item: Item): Promise<void> {
    return this.enqueueMany([item]);
  }

  async enqueueMany(items: readonly Item[]): Promise<void> {
    const ids = items.map(timedId);
    const places = items.map(() => ++this.#last);
    const inputs = items.map((item) => JSON.stringify(item));
    await this.#client.query({ ...insert, values: [ids, places, inputs] });
  }

  work(): Promise<void> {
    return Promise.reject(new Error("a bare table has no worker"));
  }

  busy(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

/** The bare table as an engine. */
export const bareInsert: Peer = {
  store: "postgres",
  async install(options) {
    await sluicePeer.install(options);
    const client = new Client({ connectionString: options.url });
    await client.connect();
    await client.query("CREATE TABLE bare (LIKE sluice.tasks INCLUDING ALL)");
    await client.end();
  },
  async open(options) {
    const client = new Client({ connectionString: options.url });
    await client.connect();
    return new BareInsert(client);
  },
};
