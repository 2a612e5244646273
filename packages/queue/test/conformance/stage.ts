import { afterAll, afterEach, expect } from "vitest";
import type { Queue, QueueOptions, Sluice } from "../../src/index.ts";
import { sluice } from "../../src/index.ts";
import { inSchema, invariants } from "../invariants.ts";
import type { EngineUnderTest } from "./engine.ts";

/** Where a test plays: apps on the engine under test, closed after it, and the store's own promises checked. */
export class Stage {
  readonly engine: EngineUnderTest;
  /** Background errors that apps told of in this test. */
  readonly errors: unknown[] = [];
  readonly #apps: Sluice[] = [];
  readonly #tolerated: RegExp[] = [];
  readonly #changed = new Set<string>();
  /** What an earlier test has broken is not held against the next. */
  readonly #known = new Set<string>();
  #count = 0;

  constructor(engine: EngineUnderTest) {
    this.engine = engine;
    afterEach(() => this.#strike());
    afterAll(() => engine.close());
  }

  /** Opens an app. */
  async app(): Promise<Sluice> {
    const app = await sluice({ database: this.engine.database(), schema: this.engine.schema });
    this.#apps.push(app);
    app.on("error", ({ error }) => this.errors.push(error));
    return app;
  }

  /** A name that no other test uses. */
  name(stem = "queue"): string {
    return `${stem} ${++this.#count}`;
  }

  /** An app with one queue of a name of its own. */
  async queue(options: QueueOptions = {}): Promise<{ app: Sluice; queue: Queue }> {
    const app = await this.app();
    return { app, queue: app.queue(this.name(), options) };
  }

  /** Background errors whose message matches are part of this test. */
  tolerate(message: RegExp): void {
    this.#tolerated.push(message);
  }

  /** The rate of this queue is changed in the test: its ledger is not held to the last rate alone. */
  changes(queue: Queue): void {
    this.#changed.add(queue.name);
  }

  /** Runs a statement on the engine's tables. */
  sql(text: string): Promise<Record<string, unknown>[]> {
    return this.engine.sql(inSchema(this.engine.schema, text));
  }

  /** Starts granted to a queue, in microseconds of the store's clock, in order. */
  async starts(queue: Queue): Promise<number[]> {
    const rows = await this.sql(
      `SELECT s::float8 AS start FROM ledger g CROSS JOIN unnest(g.starts) AS s JOIN queues q ON q.id = g.queue_id
       WHERE q.name = '${queue.name}' ORDER BY 1`,
    );
    return rows.map((row) => Number(row["start"]));
  }

  async #strike(): Promise<void> {
    await Promise.all(this.#apps.splice(0).map((app) => app.close()));
    const unexpected = this.errors
      .splice(0)
      .filter((error) => !this.#tolerated.some((each) => each.test(String(error))));
    this.#tolerated.length = 0;
    const found = await invariants(this.engine.sql, this.engine.schema, this.#changed);
    const broken = found.filter((each) => !this.#known.has(each));
    for (const each of broken) this.#known.add(each);
    expect({ broken, unexpected }).toEqual({ broken: [], unexpected: [] });
  }
}
