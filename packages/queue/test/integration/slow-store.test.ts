import pg from "pg";
import { expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { sluice } from "../../src/index.ts";
import { gate } from "../gate.ts";

const { url, schema } = freshDatabase("slow_store");

test("a worker that is told to stop while its store hangs is done a second after its drain", async () => {
  const app = await sluice({ database: url, schema });
  const errors: unknown[] = [];
  app.on("error", ({ error }) => errors.push(error));
  const queue = app.queue("hangs");
  const begun = gate();
  app.task("t", async (_, { attempt }) => {
    begun.open();
    // Deaf to its signal.
    if (attempt === 1) await new Promise(() => undefined);
    return attempt;
  });
  const { id } = await queue.enqueue("t");
  const drainMs = 500;
  const worker = await app.work({ queues: [queue], drainMs });
  await begun.opened;
  const other = new pg.Client(url);
  await other.connect();
  await other.query(`BEGIN; LOCK TABLE "${schema}".workers IN ACCESS EXCLUSIVE MODE`);
  const toldAt = performance.now();
  await worker.stop();
  expect(performance.now() - toldAt).toBeLessThan(drainMs + 1000);
  await other.query("COMMIT");
  await other.end();
  // What it could not wait for happens all the same.
  await app.work({ queues: [queue] });
  expect(await app.result(id, { timeoutMs: 5000 })).toBe(2);
  expect(errors).toEqual([]);
  await app.close();
});
