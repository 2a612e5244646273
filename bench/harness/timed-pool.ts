/**
 * A pool of `pg` whose connections note how long each query of one kind took. An engine that takes a pool of the
 * user's own can so be timed from the outside, without a hook in it.
 */
import { Client, Pool, type PoolConfig } from "pg";
import { monotonicUs } from "./monotonic-clock.ts";

type Callback = (error: Error | null, result: Result | undefined) => void;

interface Result {
  readonly rows: readonly unknown[];
}

interface Query {
  readonly text: string;
}

/** What was noted of one query. */
export interface Note {
  readonly ms: number;
  /** Rows it answered. */
  readonly rows: number;
}

/** Pool and notes. */
export interface TimedPool {
  readonly pool: Pool;
  /** The matching queries, in the order of their ends. */
  readonly notes: Note[];
}

/** A pool on `url` that times the queries whose text matches. Only queries with a callback are seen. */
export function timedPool(url: string, matches: (text: string) => boolean): TimedPool {
  const notes: Note[] = [];
  class TimedClient extends Client {
    // The driver's overloads all end here; what is not a timed query goes on as it came.
    override query(...given: never[]): never {
      const [query, callback] = given as unknown as [Query, Callback | undefined];
      const send = super.query as (...values: unknown[]) => never;
      if (typeof callback !== "function" || !matches(query.text)) return send.apply(this, given);
      const fromUs = monotonicUs();
      const timed: Callback = (error, result) => {
        notes.push({ ms: (monotonicUs() - fromUs) / 1000, rows: result?.rows.length ?? 0 });
        callback(error, result);
      };
      return send.call(this, query, timed);
    }
  }
  const config: PoolConfig & { Client: typeof Client } = {
    connectionString: url,
    max: 10,
    Client: TimedClient,
  };
  const pool = new Pool(config);
  // A pool without a listener would end the process when an idle connection dies.
  pool.on("error", () => {});
  return { pool, notes };
}
