/**
 * A worker process of the integration tests: serves one queue and tells on its standard output, one JSON object a line, what
 * happens. Times are microseconds of the machine's monotonic clock, which all processes share.
 */
import { writeSync } from "node:fs";
import { isSluiceError, type QueueOptions, sluice, type WorkOptions } from "../../src/index.ts";
import { monotonicUs, pause } from "../gate.ts";

/** What a worker process is told, as JSON in its first argument. */
export interface WorkerOrder {
  readonly url: string;
  readonly schema: string;
  readonly queue: string;
  readonly options: QueueOptions;
  readonly work: WorkOptions;
  /** Another queue served beside it. */
  readonly second?: { readonly queue: string; readonly options: QueueOptions };
  /** How long the tasks `hold` and `long` keep their slots, in milliseconds. */
  readonly holdMs?: number;
}

/** One line of a worker process. */
export type WorkerLine =
  | { readonly kind: "ready" | "gone" }
  | {
      readonly kind: "start";
      readonly id: string;
      readonly attempt: number;
      readonly input: unknown;
      readonly atUs: number;
    }
  | { readonly kind: "late" | "stale" | "lease-lost" | "recovered" }
  | { readonly kind: "error"; readonly code: string };

/** Written at once: what a killed process has said is not lost with it. */
function say(line: WorkerLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

async function main(order: WorkerOrder): Promise<void> {
  const app = await sluice({ database: order.url, schema: order.schema });
  app.on("error", ({ error }) =>
    say({ kind: "error", code: isSluiceError(error) ? error.code : String(error) }),
  );
  for (const kind of ["late", "stale", "lease-lost", "recovered"] as const) app.on(kind, () => say({ kind }));
  const queue = app.queue(order.queue, order.options);
  app.task("t", (input, { id, attempt }) => {
    say({ kind: "start", id, attempt, input, atUs: monotonicUs() });
    return input;
  });
  app.task("hold", async (input, { id, attempt, signal }) => {
    say({ kind: "start", id, attempt, input, atUs: monotonicUs() });
    if (attempt > 1) return "again";
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => resolve("held"), order.holdMs ?? 60_000);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(signal.reason as Error);
      });
    });
  });
  app.task("long", async (input, { id, attempt }) => {
    say({ kind: "start", id, attempt, input, atUs: monotonicUs() });
    await pause(order.holdMs ?? 60_000);
    return input;
  });
  app.task("steps", async (input, ctx) => {
    const { id, attempt } = ctx;
    say({ kind: "start", id, attempt, input, atUs: monotonicUs() });
    const first = await ctx.step("first", () => attempt);
    if (attempt === 1) await pause(order.holdMs ?? 60_000);
    return { first, attempt };
  });
  app.task("poison", (input, { id, attempt }) => {
    say({ kind: "start", id, attempt, input, atUs: monotonicUs() });
    process.exit(7);
  });
  app.task("block", (input: { firstMs: number }, { id, attempt }) => {
    say({ kind: "start", id, attempt, input, atUs: monotonicUs() });
    const until = performance.now() + (attempt === 1 ? input.firstMs : 0);
    while (performance.now() < until);
    return attempt;
  });
  const { second } = order;
  const queues = second === undefined ? [queue] : [queue, app.queue(second.queue, second.options)];
  await app.work({ queues, ...order.work });
  process.once("SIGTERM", () => void app.close().then(() => say({ kind: "gone" })));
  say({ kind: "ready" });
}

await main(JSON.parse(process.argv[2]!) as WorkerOrder);
