/** A process that works a Sluice queue one task at a time over a timed pool, and answers how long its claims took. */
import { sluice } from "@sluice/queue";
import type { QueueSettings } from "../peers/sluice-queue.ts";
import { serveCalls } from "./child-program.ts";
import { pause } from "./monotonic-clock.ts";
import { timedPool } from "./timed-pool.ts";

/** Argument of `claim`. */
export interface ClaimCall {
  readonly url: string;
  readonly queue: string;
  /** Settings of the queue, as declared when it was filled. */
  readonly settings: QueueSettings;
  readonly task: string;
  /** Tasks to run. */
  readonly count: number;
}

/** One exchange with the store ends the last attempt and claims the next task. */
function isExchange(text: string): boolean {
  return /^\s*SELECT[^;]*\bexchange\s*\(/.test(text);
}

/**
 * How long a handler takes. A worker claims ahead what it gets through in about this time: so paced, it claims one or
 * two tasks at once, whatever the store would give.
 */
const handlerMs = 20;

async function claim(call: ClaimCall): Promise<number[]> {
  const { pool, notes } = timedPool(call.url, isExchange);
  const app = await sluice({ database: pool });
  app.queue(call.queue, call.settings);
  let ran = 0;
  const enough = new Promise<void>((resolve) => {
    app.task(call.task, async () => {
      await pause(handlerMs);
      if (++ran === call.count) resolve();
    });
  });
  const worker = await app.work({ queues: [call.queue], concurrency: 1 });
  await enough;
  // An answer ends with a row of its own; what granted nothing was no claim.
  const claims = notes.filter((note) => note.rows > 1).map((note) => note.ms);
  await worker.stop();
  await app.close();
  await pool.end();
  return claims;
}

serveCalls({ claim });
