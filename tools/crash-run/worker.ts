/**
 * A worker process of the crash run. Everything it claims is written to its effects log by the handlers themselves,
 * before and after; it may be killed or stopped at any instant. SIGTERM: a graceful stop, exit 0.
 */
import { join } from "node:path";
import { isSluiceError, type TaskContext } from "@sluice/queue";
import { declareQueues, openApp } from "./declare.ts";
import { LogFile, monotonicUs, wallClock } from "./log-file.ts";
import { chanceOf } from "./random.ts";
import { plainTask, readOrders, steppedTask, type TaskInput } from "./scenario.ts";

const orders = readOrders();
const log = new LogFile(join(orders.directory, `effects-${orders.name}.jsonl`), { process: orders.name });

/** Notices when this process stood still: a timer of 10 ms that comes more than 10 ms late. */
function watchStandstills(): void {
  const everyUs = 10_000;
  let last = monotonicUs();
  let signs = 0;
  setInterval(() => {
    const now = monotonicUs();
    if (now - last > 2 * everyUs) log.write({ kind: "stall", from: last, mono: now });
    else if (signs++ % 100 === 0) log.write({ kind: "alive" });
    last = now;
  }, everyUs / 1000);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs a handler's body between its start line and its end line. */
async function logged(ctx: TaskContext, body: () => Promise<unknown>): Promise<unknown> {
  const { id: task, fence, attempt, queue, partition, startAtUs: startAt } = ctx;
  log.write({ kind: "start", task, fence, attempt, queue, partition, startAt });
  const end = (outcome: string, value: string | null): void =>
    log.write({ kind: "end", task, fence, outcome, value });
  try {
    const result = await body();
    end("ok", JSON.stringify(result));
    return result;
  } catch (error) {
    end(ctx.signal.aborted ? "aborted" : "error", null);
    throw error;
  }
}

function mayThrow(input: TaskInput, ctx: TaskContext): void {
  if (chanceOf(`${input.item} ${ctx.attempt}`) < input.failure) throw new Error("as planned");
}

function plain(input: TaskInput, ctx: TaskContext): Promise<unknown> {
  return logged(ctx, async () => {
    if (input.ms > 0) await pause(input.ms);
    mayThrow(input, ctx);
    return { item: input.item, fence: ctx.fence, by: orders.name };
  });
}

function stepped(input: TaskInput, ctx: TaskContext): Promise<unknown> {
  const { id: task, fence } = ctx;
  return logged(ctx, async () => {
    for (let index = 0; index < input.steps; index += 1) {
      const step = `step ${index}`;
      const value = await ctx.step(step, async () => {
        log.write({ kind: "body", task, fence, step });
        if (input.ms > 0) await pause(input.ms);
        if (index === 1) mayThrow(input, ctx);
        return { step: index, fence, by: orders.name };
      });
      log.write({ kind: "step", task, fence, step, value: JSON.stringify(value) });
    }
    if (input.child !== null) await enqueueChild(input, ctx, input.child);
    return { item: input.item, fence: ctx.fence };
  });
}

/** Every attempt makes this call again; together they make one task. */
async function enqueueChild(input: TaskInput, ctx: TaskContext, queue: string): Promise<void> {
  const item = `${input.item} child`;
  const child: TaskInput = { item, ms: 0, failure: 0, steps: 0, child: null };
  log.write({ kind: "child", item });
  const { id } = await ctx.enqueue(queue, plainTask, child, { partition: ctx.partition });
  log.write({ kind: "child", item, task: id });
}

const clock = (): void => log.write({ kind: "clock", ...wallClock() });
clock();
setInterval(clock, 5000);
watchStandstills();
/** A worker may be started while PostgreSQL is down: it tries again, as whoever supervises it would. */
async function untilAvailable<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!isSluiceError(error) || !error.retryable) throw error;
      await pause(100);
    }
  }
}

const app = await untilAvailable(() => openApp(orders.database));
declareQueues(app, orders.scenario);
app.task(plainTask, plain);
app.task(steppedTask, stepped);
app.on("late", ({ task }) => log.write({ kind: "late", task: task.id, fence: task.fence }));
app.on("stale", ({ id, fence }) => log.write({ kind: "stale", task: id, fence }));
app.on("error", ({ error, during }) => {
  if (process.env["CRASH_RUN_VERBOSE"]) console.error(`${orders.name}: ${during}: ${String(error)}`);
});
const worker = await untilAvailable(() =>
  app.work({
    concurrency: orders.scenario.workerConcurrency,
    leaseMs: orders.scenario.leaseMs,
    drainMs: orders.scenario.drainMs,
  }),
);
process.once("SIGTERM", async () => {
  await worker.stop();
  log.write({ kind: "alive", said: "worker stopped" });
  await app.close();
  log.write({ kind: "bye" });
  process.exit(0);
});
process.send?.("ready");
