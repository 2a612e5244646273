/** The claim's routines against a naive model, on a clock of the test's own. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { defineQueue, type QueueOptions, queueRecord } from "../../src/queue/definition.ts";
import type { Database } from "../../src/store/database.ts";
import { migrate } from "../../src/store/schema.ts";
import { sqlTaskStore } from "../../src/store/sql-task-store.ts";
import { ending, type Settlement, type TaskStore } from "../../src/store/task-store.ts";
import { newTaskId } from "../../src/task/task-id.ts";
import { invariants } from "../invariants.ts";
import { ClaimModel } from "./claim-model.ts";
import { sqlOf } from "./engine.ts";

const ends = [
  ending.succeeded,
  ending.retry,
  ending.dead,
  ending.givenBack,
  ending.deferred,
  ending.cancelled,
];
const lanesMax = 4;

const rate = fc.record({
  limit: fc.integer({ min: 1, max: 7 }),
  periodMs: fc.constantFrom(1, 3, 7, 10, 33.333, 50),
});
const slots = fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined, freq: 1 });
const setup = fc.record({
  rate: fc.option(rate, { nil: undefined, freq: 3 }),
  burst: fc.integer({ min: 1, max: 4 }),
  guardMs: fc.constantFrom(0, 0.001, 0.5, 2),
  concurrency: slots,
  partition: fc.record({
    concurrency: slots,
    rate: fc.option(rate, { nil: undefined, freq: 2 }),
    burst: fc.integer({ min: 1, max: 3 }),
  }),
});

const action = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("enqueue" as const),
      lanes: fc.array(fc.nat(lanesMax - 1), { minLength: 1, maxLength: 12 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("exchange" as const),
      passUs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 60_000 })),
      worker: fc.nat(1),
      want: fc.integer({ min: 0, max: 12 }),
      chain: fc.integer({ min: 1, max: 3 }),
      most: fc.integer({ min: 1, max: 20 }),
      horizonUs: fc.oneof(fc.constantFrom(0, 20_000, 1_000_000), fc.integer({ min: 0, max: 100_000 })),
      leadUs: fc.constantFrom(0, 0, 1500),
      patienceUs: fc.constant<number>(0),
      suspect: fc.boolean(),
      ended: fc.array(
        fc.record({
          nth: fc.nat(20),
          kind: fc.constantFrom(...ends),
          delayUs: fc.integer({ min: 0, max: 30_000 }),
        }),
        { maxLength: 6 },
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cancel" as const), nth: fc.nat(50) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("lose" as const), worker: fc.nat(1) }) },
);
type SetupOptions = typeof setup extends fc.Arbitrary<infer Value> ? Value : never;
type Action = typeof action extends fc.Arbitrary<infer Value> ? Value : never;

/** What chance finds too seldom: a partition that its own rate keeps later than the queue's, and then a fresh one. */
const lateLane: [SetupOptions, Action[]] = [
  {
    rate: { limit: 3, periodMs: 10 },
    burst: 1,
    guardMs: 0.5,
    concurrency: undefined,
    partition: { concurrency: undefined, rate: { limit: 1, periodMs: 33.333 }, burst: 1 },
  },
  [
    { kind: "enqueue", lanes: [0, 0, 0] },
    asking(0, 1),
    asking(0, 5),
    { kind: "enqueue", lanes: [1, 2, 3, 1] },
    asking(0, 5),
    asking(1_000, 5),
  ],
];

function asking(passUs: number, want: number): Action {
  return {
    kind: "exchange",
    passUs,
    worker: 0,
    want,
    chain: 1,
    most: 20,
    horizonUs: 1_000_000,
    leadUs: 0,
    patienceUs: 0,
    suspect: false,
    ended: [],
  };
}

type Exchange = Extract<Action, { kind: "exchange" }>;

/** Declares the suite. The database is the test's own: its clock is taken away. */
export function claimConformance(name: string, schema: string, open: () => Promise<Database>): void {
  describe(`the claim on ${name}`, () => {
    let database: Database;
    beforeAll(async () => {
      database = await open();
      await migrate(database, schema);
      await database.script(`
        CREATE TABLE "${schema}".test_clock (us bigint NOT NULL);
        INSERT INTO "${schema}".test_clock VALUES (1000000000000);
        CREATE OR REPLACE FUNCTION "${schema}".now_us() RETURNS bigint LANGUAGE plpgsql AS
          $clock$ BEGIN RETURN (SELECT c.us FROM "${schema}".test_clock c); END $clock$;`);
    });
    afterAll(() => database.close());

    let nowUs = 1_000_000_000_000;
    let run = 0;
    let suspects = 0;
    const play = async (options: SetupOptions, actions: readonly Action[], exact: boolean): Promise<void> => {
      // Each run has its own queue, and all starts of the one before are long past.
      nowUs += 3_600_000_000;
      const one = new Play({
        database,
        schema,
        queue: `q${run++}`,
        options: sensible(options),
        nowUs,
        exact,
      });
      await one.begin();
      try {
        for (const each of actions) await one.act(each);
        one.checkPatience();
        expect(await invariants(sqlOf(database), schema)).toEqual([]);
      } finally {
        nowUs = one.nowUs;
        suspects += one.suspects;
        await one.end();
      }
    };
    const actions = fc.array(action, { minLength: 4, maxLength: 22 });

    test("grants what a naive model would, when it would, whatever happens in between", {
      timeout: 120_000,
    }, async () => {
      await fc.assert(
        fc.asyncProperty(setup, actions, (options, all) => play(options, all, true)),
        { numRuns: 150, examples: [lateLane] },
      );
    });

    test("grants suspects one at a time, passes over the others, and lets serial partitions wait for theirs", {
      timeout: 120_000,
    }, async () => {
      const lossy = fc.array(
        fc.oneof(
          { weight: 4, arbitrary: action },
          { weight: 3, arbitrary: fc.record({ kind: fc.constant("lose" as const), worker: fc.nat(1) }) },
        ),
        { minLength: 20, maxLength: 45 },
      );
      suspects = 0;
      await fc.assert(
        fc.asyncProperty(setup, lossy, (options, all) => play(options, all, true)),
        { numRuns: 60 },
      );
      expect(suspects).toBeGreaterThan(10);
    });

    test("grants that may be used later than usual are paid for: used as late as they may be, they keep the window", {
      timeout: 120_000,
    }, async () => {
      const limited = setup.map((options) => ({
        ...options,
        rate: options.rate ?? { limit: 3, periodMs: 10 },
        partition: { ...options.partition, rate: undefined },
      }));
      const patience = fc.constantFrom(0, 500, 1_000, 3_000);
      const patient = fc.array(
        fc
          .tuple(action, patience)
          .map(([each, patienceUs]) => ("want" in each ? { ...each, patienceUs } : each)),
        { minLength: 8, maxLength: 40 },
      );
      await fc.assert(
        fc.asyncProperty(limited, patient, (options, all) => play(options, all, false)),
        { numRuns: 150 },
      );
    });
  });
}

/** Options that would have no effect are refused; a random definition has them. */
function sensible({ rate: queueRate, burst, guardMs, concurrency, partition }: SetupOptions): QueueOptions {
  const own = { ...(partition.concurrency === undefined ? {} : { concurrency: partition.concurrency }) };
  const paced = partition.rate === undefined ? own : { ...own, rate: partition.rate, burst: partition.burst };
  return {
    partition: paced,
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(queueRate === undefined ? {} : { rate: queueRate, burst, guardMs }),
  };
}

interface Scene {
  readonly database: Database;
  readonly schema: string;
  readonly queue: string;
  readonly options: QueueOptions;
  readonly nowUs: number;
  /** Whether starts are compared with the model's to the microsecond. */
  readonly exact: boolean;
}

/** One run: the same things done to the store and to the model. */
class Play {
  nowUs: number;
  /** How many suspects were granted. */
  suspects = 0;
  readonly #scene: Scene;
  readonly #store: TaskStore;
  readonly #model: ClaimModel;
  readonly #granted: { readonly startUs: number; readonly patienceUs: number }[] = [];
  #workers: string[] = [];
  #queueId = 0;

  constructor(scene: Scene) {
    this.#scene = scene;
    this.nowUs = scene.nowUs;
    this.#store = sqlTaskStore(scene.database, scene.schema);
    this.#model = new ClaimModel(queueRecord(defineQueue(scene.queue, scene.options)), lanesMax, scene.exact);
  }

  async begin(): Promise<void> {
    await this.#pass(0);
    this.#queueId = await this.#store.queueDeclare(
      queueRecord(defineQueue(this.#scene.queue, this.#scene.options)),
    );
    for (let i = 0; i < 2; i++) await this.#join(i);
  }

  async #join(place: number): Promise<void> {
    this.#workers[place] = randomUUID();
    await this.#store.workerJoin(this.#workers[place]!, `worker ${place}`, 1e12);
  }

  async #pass(us: number): Promise<void> {
    this.nowUs += us;
    await sqlOf(this.#scene.database)(`UPDATE "${this.#scene.schema}".test_clock SET us = ${this.nowUs}`);
  }

  act(action: Action): Promise<void> {
    if (action.kind === "enqueue") return this.#enqueue(action.lanes);
    if (action.kind === "exchange") return this.#exchange(action);
    if (action.kind === "cancel") return this.#cancel(action.nth);
    return this.#lose(action.worker);
  }

  async #enqueue(lanes: readonly number[]): Promise<void> {
    const tasks = lanes.map((lane) => ({
      id: newTaskId(),
      name: "t",
      partition: `${lane}`,
      input: null,
      maxAttempts: 1000,
      delayUs: null,
      runAtUs: null,
      key: null,
    }));
    await this.#store.taskEnqueue(this.#queueId, tasks);
    for (const { id, partition } of tasks) this.#model.enqueue(Number(partition), id);
  }

  async #exchange({ kind: _, passUs, worker, ended, ...asked }: Exchange): Promise<void> {
    await this.#pass(passUs);
    const workerId = this.#workers[worker]!;
    const mine = [...this.#model.running.values()].filter((run) => run.workerId === workerId);
    const chosen = new Map(ended.filter(({ nth }) => nth < mine.length).map((end) => [end.nth, end]));
    const settlements = [...chosen.values()].map(({ nth, kind, delayUs }): Settlement => {
      const { taskId, fence, lane, startUs } = mine[nth]!.grant;
      // What has not started can only be given back.
      const end = startUs > this.nowUs ? ending.givenBack : kind;
      return {
        taskId,
        fence,
        lane,
        kind: end,
        body: null,
        delayUs: end === ending.retry || end === ending.deferred ? delayUs : 0,
      };
    });
    const request = { queueId: this.#queueId, workerId, settlements, ...asked, deadlineMs: 10_000 };
    const answer = await this.#store.exchange(request);
    expect(answer.stale).toEqual([]);
    expect(answer.nowUs).toBe(this.nowUs);
    const { patienceUs } = answer;
    this.suspects += answer.grants.filter(({ suspect }) => suspect).length;
    this.#granted.push(...answer.grants.map(({ startUs }) => ({ startUs, patienceUs })));
    this.#model.exchanged({ workerId, nowUs: this.nowUs, settlements, ...asked }, answer);
  }

  /** The last start of a window's worth, used as late as it may be, and the first after it lie a period and the guard apart. */
  checkPatience(): void {
    const { limit } = queueRecord(defineQueue(this.#scene.queue, this.#scene.options));
    if (limit === undefined) return;
    const granted = this.#granted.sort((a, b) => a.startUs - b.startUs);
    const apart = limit.amount + limit.burst - 1;
    for (const [i, { startUs, patienceUs }] of granted.entries()) {
      const next = granted[i + apart];
      if (next === undefined) break;
      // Whole microseconds: the last one is rounding.
      expect(next.startUs - (startUs + patienceUs)).toBeGreaterThanOrEqual(
        limit.periodUs + limit.guardUs - 1,
      );
    }
  }

  async #cancel(nth: number): Promise<void> {
    const { waiting } = this.#model;
    const task = waiting[nth % Math.max(1, waiting.length)];
    if (task === undefined) return;
    expect(await this.#store.taskCancel(task.id)).toBe("cancelled");
    this.#model.cancel(task);
  }

  async #lose(worker: number): Promise<void> {
    await this.#store.workerLeave(this.#workers[worker]!);
    this.#model.lose(this.#workers[worker]!, this.nowUs);
    await this.#join(worker);
  }

  async end(): Promise<void> {
    for (const worker of this.#workers) await this.#store.workerLeave(worker);
    const { database, schema } = this.#scene;
    // The next run's invariants need not look at this one's rows again.
    for (const table of ["tasks", "lanes", "timers", "ledger"]) {
      await sqlOf(database)(`DELETE FROM "${schema}".${table} WHERE queue_id = ${this.#queueId}`);
    }
  }
}
