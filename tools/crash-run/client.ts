/**
 * The client process of the crash run: enqueues singly, in bulk, with idempotency keys and inside its own transactions,
 * cancels now and then, and reads tasks back. It logs each call before and after, and calls an outcome `unknown`
 * whenever the answer leaves room for doubt. SIGTERM: no new calls, those under way end, exit 0.
 */
import { join } from "node:path";
import { type EnqueueOptions, isSluiceError, type Queue, type Sluice } from "@sluice/queue";
import pg from "pg";
import { declareQueues, openApp } from "./declare.ts";
import { LogFile, monotonicUs } from "./log-file.ts";
import { between, pick, seededRandom } from "./random.ts";
import { plainTask, readOrders, type ScenarioQueue, steppedTask, type TaskInput } from "./scenario.ts";

const orders = readOrders();
const random = seededRandom(orders.seed);
const log = new LogFile(join(orders.directory, "client.jsonl"));
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const recent: string[] = [];
let calls = 0;
let ending = false;

interface PlannedTask {
  readonly task: string;
  readonly input: TaskInput;
  readonly partition: string;
  readonly delayMs: number;
  readonly key: string | null;
}

function plan(queue: ScenarioQueue, item: string, keyed: boolean): PlannedTask {
  const slow = random() < queue.slowShare;
  const ms = slow ? between(random, ...queue.slowMs) : between(random, 0, 25);
  // What is slow and what fails for good are different tasks, so that the quiet phase need not wait for slow retries.
  const child = queue.steps > 0 && random() < 0.3 ? "paced" : null;
  const failure = slow ? 0 : random() < 0.02 ? 1 : queue.failure;
  return {
    task: queue.steps > 0 ? steppedTask : plainTask,
    input: { item, ms, failure, steps: queue.steps, child },
    partition: pick(random, queue.partitions),
    delayMs: random() < 0.05 ? between(random, 50, 1500) : 0,
    key: keyed ? `key ${item}` : null,
  };
}

const optionsOf = (planned: PlannedTask): EnqueueOptions => ({
  partition: planned.partition,
  ...(planned.delayMs > 0 && { delayMs: planned.delayMs }),
  ...(planned.key !== null && { idempotencyKey: planned.key }),
});

type Answer = { id: string; duplicate: boolean }[];

/** Makes one call, logging it, and resolves to its outcome. */
async function call(
  queue: string,
  planned: readonly PlannedTask[],
  make: () => Promise<Answer | "rolled back">,
): Promise<"ok" | "fail" | "unknown"> {
  const id = `call-${++calls}`;
  const items = planned.map(({ input: { item }, partition, delayMs, key }) => ({
    item,
    queue,
    partition,
    delayMs,
    key,
  }));
  log.write({ op: "enqueue", phase: "invoke", id, items });
  try {
    const answer = await make();
    if (answer === "rolled back") {
      log.write({ op: "enqueue", phase: "return", id, outcome: "fail" });
      return "fail";
    }
    const tasks = answer.map((handle) => handle.id);
    log.write({
      op: "enqueue",
      phase: "return",
      id,
      outcome: "ok",
      tasks,
      duplicates: answer.map((one) => one.duplicate),
    });
    recent.push(...tasks.slice(0, 5));
    recent.splice(0, recent.length - 200);
    return "ok";
  } catch (error) {
    // Only what was refused before it was sent, or rolled back for certain, is known not to have happened.
    const outcome = error instanceof NotSent ? "fail" : "unknown";
    log.write({ op: "enqueue", phase: "return", id, outcome, why: String(error) });
    if (outcome === "unknown" && !isSluiceError(error) && !(error instanceof CommitInDoubt))
      console.error(`client: ${(error as Error).stack}`);
    return outcome;
  }
}

class NotSent extends Error {}
class CommitInDoubt extends Error {}

/** Enqueues in a transaction of the client's own, committing it or not. */
async function inTransaction(queue: Queue, planned: readonly PlannedTask[]): Promise<Answer | "rolled back"> {
  const client = new pg.Client({ connectionString: orders.database });
  client.on("error", () => undefined);
  try {
    const answer: Answer = [];
    try {
      await client.connect();
      await client.query("BEGIN");
      for (const one of planned)
        answer.push(await queue.enqueue(one.task, one.input, { ...optionsOf(one), client }));
      if (random() < 0.1) {
        await client.query("ROLLBACK");
        return "rolled back";
      }
    } catch (error) {
      throw new NotSent(String(error));
    }
    await client.query("COMMIT").catch((error: unknown) => {
      throw new CommitInDoubt(String(error));
    });
    return answer;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function enqueueOnce(app: { queue: Queue; scenario: ScenarioQueue }): Promise<number> {
  const { queue, scenario } = app;
  const kind = random();
  const count = kind < 0.4 ? 1 : between(random, 1, scenario.bulkMax + 1);
  const keyed = kind < 0.2;
  const planned = Array.from({ length: count }, (_, index) =>
    plan(scenario, `${scenario.name}-${calls + 1}/${index}`, keyed),
  );
  const first = planned[0] as PlannedTask;
  if (keyed) {
    // With a key a doubtful call is made again until it is answered, and sometimes once more than needed.
    for (let again = true; again && !ending; ) {
      const outcome = await call(scenario.name, [first], async () => [
        await queue.enqueue(first.task, first.input, optionsOf(first)),
      ]);
      again = outcome !== "ok" || random() < 0.1;
      if (again) await pause(100);
    }
  } else if (kind < 0.4) {
    await call(scenario.name, planned, async () => [
      await queue.enqueue(first.task, first.input, optionsOf(first)),
    ]);
  } else if (kind < 0.55) await call(scenario.name, planned, () => inTransaction(queue, planned));
  else
    await call(scenario.name, planned, async () => [
      ...(await queue.enqueueMany(
        planned.map((one) => ({ task: one.task, input: one.input, ...optionsOf(one) })),
      )),
    ]);
  return count;
}

/** Enqueues on one queue at its load: two thirds of the time at 1.4 of it, one third at 0.2. */
async function enqueueLoop(queue: Queue, scenario: ScenarioQueue): Promise<void> {
  const began = monotonicUs();
  while (!ending) {
    const began1 = monotonicUs();
    const count = await enqueueOnce({ queue, scenario });
    const busy = ((monotonicUs() - began) / 1e6) % 15 < 10;
    const rate = scenario.load * orders.load * (busy ? 1.4 : 0.2);
    const restMs = (count / rate) * 1000 * (0.5 + random()) - (monotonicUs() - began1) / 1000;
    // Long rests are cut, so that a quiet spell does not outlast itself.
    await pause(Math.max(1, Math.min(restMs, 2000)));
  }
}

async function observeLoop(app: Sluice): Promise<void> {
  while (!ending) {
    const task = recent.at(-between(random, 1, 60));
    if (task !== undefined) {
      const invoked = monotonicUs();
      const record = await app.get(task).catch(() => undefined);
      if (record !== undefined)
        log.write({
          op: "get",
          observer: "client",
          task,
          invoked,
          state: record.state,
          fence: record.fence ?? null,
          value: record.state === "succeeded" ? JSON.stringify(record.result) : null,
        });
    }
    await pause(between(random, 5, 30));
  }
}

async function cancelLoop(app: Sluice): Promise<void> {
  while (!ending) {
    await pause(between(random, 300, 1500));
    const task = recent.at(-between(random, 1, 60));
    if (task === undefined || ending) continue;
    const id = `cancel-${++calls}`;
    log.write({ op: "cancel", phase: "invoke", id, task });
    const outcome = await app.cancel(task).then(
      () => "ok",
      () => "unknown",
    );
    log.write({ op: "cancel", phase: "return", id, outcome });
  }
}

const app = await openApp(orders.database);
const queues = declareQueues(app, orders.scenario);
app.on("error", () => undefined);
process.once("SIGTERM", () => {
  ending = true;
});
process.send?.("ready");
await Promise.all([
  ...orders.scenario.queues.flatMap((scenario) => {
    const loop = (): Promise<void> => enqueueLoop(queues.get(scenario.name) as Queue, scenario);
    return scenario.load > 100 ? [loop(), loop()] : [loop()];
  }),
  observeLoop(app),
  cancelLoop(app),
]);
await app.close();
process.exit(0);
