/**
 * The final export: the product's tables as they stand, in the checker's words. Read with plain SQL over a connection of
 * its own; only the counts by state are asked of the product, because they are to be compared.
 */
import { join } from "node:path";
import pg from "pg";
import { declareQueues, openApp } from "./declare.ts";
import { LogFile } from "./log-file.ts";
import type { Scenario } from "./scenario.ts";

const schema = "sluice";

/** Tasks that have not come to rest. */
export async function countUnfinished(database: string): Promise<number> {
  const [row] = await read(
    database,
    `SELECT (SELECT count(*) FROM ${schema}.tasks WHERE state IN ('w', 't')) + (SELECT count(*) FROM ${schema}.staged) AS count`,
  );
  return Number(row?.["count"]);
}

async function read(database: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: database });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows as Record<string, unknown>[];
  } finally {
    await client.end();
  }
}

/** Each row becomes one line of the export, `table` first. bigint columns are cast where they are read. */
const queries: Readonly<Record<string, string>> = {
  tasks: `
    SELECT t.id::text, t.input::json ->> 'item' AS item, q.name AS queue, l.partition, t.attempt, r.fence::float8 AS fence,
      CASE t.state WHEN 'w' THEN CASE WHEN r.task_id IS NULL THEN 'waiting' ELSE 'running' END WHEN 't' THEN 'scheduled'
        WHEN 'd' THEN 'succeeded' WHEN 'x' THEN 'dead' WHEN 'c' THEN 'cancelled' ELSE t.state::text END AS state,
      t.result, t.enqueued_us::float8 AS "enqueuedAt", t.started_us::float8 AS "startedAt", t.finished_us::float8 AS "finishedAt"
    FROM ${schema}.tasks t JOIN ${schema}.queues q ON q.id = t.queue_id LEFT JOIN ${schema}.lanes l ON l.id = t.lane_id
    LEFT JOIN ${schema}.runs r ON r.task_id = t.id`,
  steps: `SELECT task_id::text AS task, name AS step, fence::float8 AS fence, result AS output, recorded_us::float8 AS at
    FROM ${schema}.steps`,
  runs: `SELECT task_id::text AS task, fence::float8 AS fence FROM ${schema}.runs`,
  timers: `SELECT task_id::text AS task FROM ${schema}.timers`,
  lanes: `
    SELECT q.name AS queue, l.partition, l.running, l.waiting::float8 AS waiting
    FROM ${schema}.lanes l JOIN ${schema}.queues q ON q.id = l.queue_id`,
  ledger: `
    SELECT q.name AS queue, CASE WHEN s.scope = 'lane' THEN n.partition END AS partition, g.claimed_us::float8 AS at,
      json_agg(u.start ORDER BY u.ord) AS starts, json_agg(u.task ORDER BY u.ord) AS tasks, json_agg(u.fence ORDER BY u.ord) AS fences
    FROM ${schema}.ledger g JOIN ${schema}.queues q ON q.id = g.queue_id
    CROSS JOIN LATERAL unnest(g.starts, g.tasks, g.fences, g.lanes) WITH ORDINALITY AS u (start, task, fence, lane, ord)
    LEFT JOIN ${schema}.lanes n ON n.id = u.lane
    CROSS JOIN (VALUES ('queue'), ('lane')) AS s (scope)
    WHERE CASE s.scope WHEN 'queue' THEN g.limit_id IS NOT NULL ELSE q.lane_interval_num IS NOT NULL END
    GROUP BY g.id, q.name, g.claimed_us, s.scope, CASE WHEN s.scope = 'lane' THEN n.partition END`,
};

/** Writes `export.jsonl`. */
export async function exportTables(database: string, directory: string, scenario: Scenario): Promise<void> {
  const file = new LogFile(join(directory, "export.jsonl"));
  for (const [table, sql] of Object.entries(queries))
    for (const row of await read(database, sql)) file.write({ table, ...row, mono: undefined });
  const app = await openApp(database);
  for (const [queue, handle] of declareQueues(app, scenario))
    file.write({ table: "counts", queue, counts: await handle.stats(), deleted: 0, mono: undefined });
  await app.close();
  file.close();
}
