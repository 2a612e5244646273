import { describe, expect, test } from "vitest";
import type { Queue } from "../../../src/index.ts";
import { pause } from "../../gate.ts";
import type { Stage } from "../stage.ts";

/** Tasks whose worker was lost again and again. */
export function suspectCases(stage: Stage): void {
  /** As if the worker had been lost twice while it ran them. */
  const suspect = async (ids: readonly string[]): Promise<void> => {
    const { schema } = stage.engine;
    const list = ids.map((id) => `'${id}'`).join(", ");
    await stage.engine.sql(`UPDATE "${schema}".tasks SET losses = 2, attempt = 2 WHERE id IN (${list})`);
    await stage.engine.sql(
      `INSERT INTO "${schema}".suspects SELECT t.id, t.queue_id FROM "${schema}".tasks t WHERE t.id IN (${list})`,
    );
  };
  const fill = async (queue: Queue, count: number): Promise<string[]> => {
    const items = Array.from({ length: count }, (_, n) => ({ task: "t", input: n, partition: `p${n % 3}` }));
    return (await queue.enqueueMany(items)).map(({ id }) => id);
  };

  describe("suspects", () => {
    test("run one at a time in a worker, over all its queues, beside ordinary tasks, and at once after each other", async () => {
      const { app, queue } = await stage.queue();
      const serial = app.queue(stage.name(), { partition: { concurrency: 1 } });
      const paced = app.queue(stage.name(), { rate: "1000/1s", burst: 100 });
      const queues = [queue, serial, paced];
      const ids = await Promise.all(queues.map((each) => fill(each, 9)));
      const suspects = new Set(ids.flatMap((each) => each.filter((_, n) => n % 3 === 0 || n === 4)));
      await suspect([...suspects]);
      let now = 0;
      let late = 0;
      app.on("late", () => late++);
      let begunAt: number | undefined;
      let most = 0;
      const order: string[] = [];
      app.task("t", async (_, { id }) => {
        order.push(id);
        begunAt ??= performance.now();
        if (!suspects.has(id)) return;
        most = Math.max(most, ++now);
        await pause(10);
        now--;
      });
      await app.work({ queues, concurrency: 20, pollMs: 60_000 });
      await Promise.all(ids.flat().map((id) => app.result(id, { timeoutMs: 20_000 })));
      expect(most).toBe(1);
      // Far less than if each waited to be asked for by the clock.
      expect(performance.now() - begunAt!).toBeLessThan(suspects.size * 250);
      for (const lane of [0, 1, 2]) {
        const mine = ids[1]!.filter((_, n) => n % 3 === lane);
        expect(order.filter((id) => mine.includes(id))).toEqual(mine);
      }
      // No suspect is granted to be given back: what was paid for was started, or late on a slow machine.
      expect(await stage.starts(paced)).toHaveLength(9 + late);
    });

    test("are ordinary again when a hand retries them, and are forgotten when they have ended", async () => {
      const { app, queue } = await stage.queue({ maxAttempts: 1 });
      const [first, second] = await fill(queue, 2);
      await suspect([first!, second!]);
      await app.cancel(first!);
      expect(await app.retry(first!)).toBe("waiting");
      expect(await app.get(first!)).toMatchObject({ losses: 0 });
      app.task("t", (input) => input);
      await app.work({ queues: [queue] });
      await Promise.all([first!, second!].map((id) => app.result(id, { timeoutMs: 5000 })));
      const { schema } = stage.engine;
      await stage.engine.sql(
        `SELECT p.removed::int AS removed FROM "${schema}".prune('00000000-0000-0000-0000-000000000000', 10000, 86400000000) p`,
      );
      const left = await stage.sql(`SELECT s.task_id::text AS id FROM suspects s`);
      expect(left.filter(({ id }) => id === first || id === second)).toEqual([]);
    });
  });
}
