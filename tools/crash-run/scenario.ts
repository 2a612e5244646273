/**
 * What the crash run works on: four queues that between them use every kind of limit, and the policies written down for
 * the checker in its own terms. Numbers are given once, here, and never asked of the product.
 */
import type { Policies, RatePolicy } from "../check-history/history.ts";

/** A queue of the scenario as it is declared to the product and as it is judged. */
export interface ScenarioQueue {
  readonly name: string;
  readonly partitions: readonly string[];
  readonly rate: RatePolicy | null;
  readonly partitionRate: RatePolicy | null;
  readonly concurrency: number | null;
  readonly partitionConcurrency: number | null;
  /** Tasks enqueued per second, on average, while faults are injected. */
  readonly load: number;
  /** Tasks of one call at most. */
  readonly bulkMax: number;
  /** Steps of a task; 0 for a plain one. */
  readonly steps: number;
  /** Share of tasks (or steps) that take between `slowMs`; the others up to 25 ms. */
  readonly slowShare: number;
  readonly slowMs: readonly [number, number];
  /** Chance of an attempt to throw. */
  readonly failure: number;
}

/** Everything a run is told. */
export interface Scenario {
  readonly leaseMs: number;
  readonly workerConcurrency: number;
  /** How long a worker that is asked to end waits for its handlers. */
  readonly drainMs: number;
  /** D of the checker's liveness invariants. */
  readonly slackMs: number;
  readonly maxAttempts: number;
  readonly backoff: { readonly minMs: number; readonly maxMs: number; readonly factor: number };
  readonly queues: readonly ScenarioQueue[];
}

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `p${index}`);
const perSecond = (limit: number, guardMs: number): RatePolicy => ({
  limit,
  periodUs: 1_000_000,
  burst: 1,
  guardUs: guardMs * 1000,
});

/** The scenario of the crash run. */
export const crashScenario: Scenario = {
  leaseMs: 3000,
  workerConcurrency: 50,
  drainMs: 2000,
  slackMs: 3000,
  maxAttempts: 4,
  backoff: { minMs: 50, maxMs: 500, factor: 2 },
  queues: [
    {
      name: "paced",
      partitions: names(6),
      rate: perSecond(20, 50),
      partitionRate: null,
      concurrency: null,
      partitionConcurrency: 1,
      load: 9,
      bulkMax: 5,
      steps: 0,
      slowShare: 0.03,
      slowMs: [500, 4000],
      failure: 0.03,
    },
    {
      name: "fast",
      partitions: names(3),
      rate: perSecond(500, 50),
      partitionRate: null,
      concurrency: null,
      partitionConcurrency: null,
      load: 150,
      bulkMax: 100,
      steps: 0,
      slowShare: 0.001,
      slowMs: [500, 4000],
      failure: 0.03,
    },
    {
      name: "keyed",
      partitions: names(5),
      rate: null,
      partitionRate: perSecond(5, 50),
      concurrency: 8,
      partitionConcurrency: null,
      load: 12,
      bulkMax: 4,
      steps: 0,
      slowShare: 0.03,
      slowMs: [500, 4000],
      failure: 0.03,
    },
    {
      name: "steps",
      partitions: names(2),
      rate: null,
      partitionRate: null,
      concurrency: null,
      partitionConcurrency: null,
      load: 25,
      bulkMax: 8,
      steps: 3,
      slowShare: 0.03,
      slowMs: [500, 4000],
      failure: 0.2,
    },
  ],
};

/**
 * A short scenario that leans on every promise at once: leases of a second under handlers that take longer, bursts, both
 * kinds of slots, both kinds of rate. What the mutants are judged on.
 */
export const adversarialScenario: Scenario = {
  leaseMs: 1000,
  workerConcurrency: 40,
  drainMs: 1000,
  slackMs: 2000,
  maxAttempts: 4,
  backoff: { minMs: 20, maxMs: 200, factor: 2 },
  queues: [
    {
      name: "paced",
      partitions: names(4),
      rate: perSecond(25, 50),
      partitionRate: null,
      concurrency: null,
      partitionConcurrency: 1,
      load: 22,
      bulkMax: 4,
      steps: 0,
      slowShare: 0.05,
      slowMs: [300, 1500],
      failure: 0.1,
    },
    {
      name: "bursty",
      partitions: names(3),
      rate: { limit: 40, periodUs: 1_000_000, burst: 5, guardUs: 50_000 },
      partitionRate: null,
      concurrency: 3,
      partitionConcurrency: null,
      load: 20,
      bulkMax: 12,
      steps: 0,
      slowShare: 0.05,
      slowMs: [300, 2000],
      failure: 0.1,
    },
    {
      name: "keyed",
      partitions: names(4),
      rate: null,
      partitionRate: perSecond(8, 50),
      concurrency: null,
      partitionConcurrency: null,
      load: 22,
      bulkMax: 8,
      steps: 0,
      slowShare: 0.1,
      slowMs: [300, 2500],
      failure: 0.1,
    },
    {
      name: "steps",
      partitions: names(2),
      rate: null,
      partitionRate: null,
      concurrency: null,
      partitionConcurrency: null,
      load: 25,
      bulkMax: 6,
      steps: 2,
      slowShare: 0.3,
      slowMs: [200, 1200],
      failure: 0.3,
    },
  ],
};

/** The policies of a scenario. Sweeps come every fifth of a lease, a worker reconnects within a second. */
export function policiesOf(scenario: Scenario): Policies {
  return {
    leaseMs: scenario.leaseMs,
    sweepMs: scenario.leaseMs / 5,
    reconnectMs: 1500,
    slackMs: scenario.slackMs,
    queues: Object.fromEntries(
      scenario.queues.map((queue) => [
        queue.name,
        {
          rate: queue.rate,
          concurrency: queue.concurrency,
          partition: { rate: queue.partitionRate, concurrency: queue.partitionConcurrency },
          // Attempts lost with their worker are counted apart by the product and bounded by its own setting.
          maxAttempts: scenario.maxAttempts + 20,
          backoffMaxMs: scenario.backoff.maxMs * 1.5,
        },
      ]),
    ),
  };
}

/** What a task of the scenario carries. */
export interface TaskInput {
  /** The client's name for it. */
  readonly item: string;
  /** How long its handler (or each step) takes. */
  readonly ms: number;
  /** Chance of an attempt to throw, decided by item and attempt alone. */
  readonly failure: number;
  readonly steps: number;
  /** The queue in which the handler enqueues one more task at its end; null: none. */
  readonly child: string | null;
}

/** The names of the scenario's tasks. */
export const plainTask = "plain";
export const steppedTask = "stepped";

/** What a worker or client process is told, as JSON in its environment. */
export interface ProcessOrders {
  readonly database: string;
  readonly directory: string;
  readonly name: string;
  readonly seed: number;
  readonly scenario: Scenario;
  /** Multiplies the loads; 1 for the crash run. */
  readonly load: number;
}

/** Name of the environment variable that carries {@link ProcessOrders}. */
export const ordersVariable = "CRASH_RUN_ORDERS";

/** The orders of this process. */
export function readOrders(): ProcessOrders {
  return JSON.parse(process.env[ordersVariable] as string) as ProcessOrders;
}
