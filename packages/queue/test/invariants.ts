import { mostInAnyWindow } from "./windows.ts";

/** Runs one SQL statement without parameters. */
export type Sql = (text: string) => Promise<Record<string, unknown>[]>;

/** Each finds rows that break a promise of the schema; `what` says which, `detail` what was found. */
const checks: Readonly<Record<string, string>> = {
  "lanes.waiting counts the waiting tasks without a lease": `
    SELECT l.id, l.waiting::text || ' <> ' || count(t.id)::text AS detail FROM lanes l
    LEFT JOIN tasks t ON t.lane_id = l.id AND t.state = 'w' AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.task_id = t.id)
    GROUP BY l.id HAVING l.waiting <> count(t.id)`,
  "lanes.running counts the leases of a lane whose queue limits them, and is null otherwise": `
    SELECT l.id, COALESCE(l.running::text, 'null') || ' of ' || COALESCE(q.lane_concurrency::text, 'null') AS detail
    FROM lanes l JOIN queues q ON q.id = l.queue_id
    WHERE COALESCE(l.running, 0) <> CASE WHEN q.lane_concurrency IS NULL THEN 0 ELSE (SELECT count(*) FROM runs r WHERE r.lane_id = l.id) END`,
  "a lane is open exactly if it has waiting tasks and a free slot": `
    SELECT l.id, 'open ' || l.open || ', waiting ' || l.waiting || ', running ' || COALESCE(l.running::text, 'null') AS detail
    FROM lanes l JOIN queues q ON q.id = l.queue_id
    WHERE l.open <> (l.waiting > 0 AND (q.lane_concurrency IS NULL OR COALESCE(l.running, 0) < q.lane_concurrency))`,
  "no waiting task lies before its lane's head, but for suspects passed over, or behind its tail": `
    SELECT t.id, t.seq || ' not in ' || l.head || '..' || l.tail AS detail FROM tasks t JOIN lanes l ON l.id = t.lane_id
    WHERE t.state = 'w' AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.task_id = t.id) AND NOT (t.seq BETWEEN l.head AND l.tail)
      AND NOT (t.losses >= 2 AND t.seq <= l.tail AND EXISTS (
        SELECT 1 FROM queues q WHERE q.id = t.queue_id AND q.lane_concurrency IS DISTINCT FROM 1 AND q.concurrency IS DISTINCT FROM 1))`,
  "a live task lost twice or more is a suspect, of its queue": `
    SELECT t.id, t.losses || ' losses' AS detail FROM tasks t LEFT JOIN suspects s ON s.task_id = t.id
    WHERE t.state IN ('w', 't') AND (t.losses >= 2) <> (s.task_id IS NOT NULL) OR s.queue_id <> t.queue_id`,
  "a task has a lane of its own queue": `
    SELECT t.id, 'lane ' || t.lane_id AS detail FROM tasks t LEFT JOIN lanes l ON l.id = t.lane_id
    WHERE l.queue_id IS DISTINCT FROM t.queue_id`,
  "a task is on a timer exactly if its state says so, and then has no place": `
    SELECT t.id, t.state::text || ' ' || COALESCE(t.seq::text, 'null') || ' ' || COALESCE(m.due_us::text, 'null') AS detail
    FROM tasks t LEFT JOIN timers m ON m.task_id = t.id
    WHERE (t.state = 't') <> (m.task_id IS NOT NULL) OR (t.state = 't' AND t.seq IS NOT NULL) OR (t.state = 'w' AND t.seq IS NULL)`,
  "a timer belongs to a task of its lane": `
    SELECT m.task_id AS id, 'lane ' || m.lane_id AS detail FROM timers m LEFT JOIN tasks t ON t.id = m.task_id
    WHERE t.lane_id IS DISTINCT FROM m.lane_id OR t.queue_id IS DISTINCT FROM m.queue_id`,
  "a lease belongs to a live task, of its lane and queue": `
    SELECT r.task_id AS id, COALESCE(t.state::text, 'no task') AS detail FROM runs r LEFT JOIN tasks t ON t.id = r.task_id
    WHERE t.state IS DISTINCT FROM 'w' OR t.lane_id <> r.lane_id OR t.queue_id <> r.queue_id OR r.attempt <> t.attempt + 1`,
  "a lease takes a slot exactly where its queue counts them": `
    SELECT r.task_id AS id, COALESCE(r.lane_slot::text, 'null') || ' ' || COALESCE(r.queue_slot::text, 'null') AS detail
    FROM runs r JOIN queues q ON q.id = r.queue_id
    WHERE r.lane_slot IS DISTINCT FROM CASE WHEN q.lane_concurrency IS NOT NULL THEN r.lane_id END
      OR r.queue_slot IS DISTINCT FROM CASE WHEN q.concurrency IS NOT NULL THEN r.queue_id END`,
  "a task's end has its instant, and instants are in order": `
    SELECT t.id, t.state::text || ' ' || t.enqueued_us || ' ' || COALESCE(t.started_us::text, '-') || ' ' || COALESCE(t.finished_us::text, '-') AS detail
    FROM tasks t WHERE (t.state IN ('d', 'x', 'c')) <> (t.finished_us IS NOT NULL)
      OR t.finished_us < t.enqueued_us OR t.started_us < t.enqueued_us OR t.finished_us < t.started_us`,
  "a task that is waiting is not one that was cancelled": `
    SELECT t.id, t.state::text AS detail FROM tasks t
    WHERE t.cancelling AND t.state IN ('w', 't') AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.task_id = t.id)`,
  "attempts are the sum of their ends": `
    SELECT t.id, t.attempt || ' < ' || t.failures || ' + ' || t.losses AS detail FROM tasks t WHERE t.attempt < t.failures + t.losses`,
  "a ledger row's arrays are in step, its starts in order and not before their claim": `
    SELECT l.id, l.starts::text AS detail FROM ledger l
    WHERE cardinality(l.starts) <> cardinality(l.tasks) OR cardinality(l.starts) <> cardinality(l.fences) OR cardinality(l.starts) <> cardinality(l.lanes)
      OR EXISTS (SELECT 1 FROM unnest(l.starts) WITH ORDINALITY AS s (us, n) WHERE s.us < l.claimed_us OR s.us < l.starts[s.n - 1])`,
  "a fence is granted once": `
    SELECT f AS id, count(*)::text AS detail FROM ledger l CROSS JOIN unnest(l.fences) AS f GROUP BY f HAVING count(*) > 1`,
  "the leases of limited queues are in the ledger": `
    SELECT r.task_id AS id, r.fence::text AS detail FROM runs r JOIN queues q ON q.id = r.queue_id
    WHERE (q.limit_id IS NOT NULL OR q.lane_interval_num IS NOT NULL)
      AND NOT EXISTS (SELECT 1 FROM ledger l WHERE r.fence = ANY (l.fences) AND r.start_us = ANY (l.starts))`,
  "nothing is staged outside a transaction": "SELECT s.id, 'queue ' || s.queue_id AS detail FROM staged s",
  "a step belongs to a task": `
    SELECT s.task_id AS id, s.name AS detail FROM steps s WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = s.task_id)`,
};

const tables =
  /\b(FROM|JOIN) (lanes|tasks|runs|queues|limits|timers|ledger|staged|steps|idempotency|workers|suspects)\b/g;

/** A statement on the engine's tables, with the schema written into it. */
export function inSchema(schema: string, text: string): string {
  return text.replaceAll(tables, (_, keyword: string, table: string) => `${keyword} "${schema}".${table}`);
}

/**
 * What a schema breaks of its own promises, in words; empty when all is well. Derived columns are compared with what tasks and
 * leases say, and the starts of every limit in the ledger with any window of its period.
 */
export async function invariants(
  sql: Sql,
  schema: string,
  changed: ReadonlySet<string> = new Set(),
): Promise<string[]> {
  const broken: string[] = [];
  for (const [what, text] of Object.entries(checks)) {
    const rows = await sql(
      `SELECT f.id::text AS id, f.detail::text AS detail FROM (${inSchema(schema, text)}) f LIMIT 5`,
    );
    for (const { id, detail } of rows) broken.push(`${what}: ${String(id)}: ${String(detail)}`);
  }
  broken.push(...(await windowsOver(sql, schema, changed)));
  return broken;
}

/** Starts granted under one budget: a queue's, or one partition's. */
export interface Budget {
  readonly queue: string;
  readonly partition: string | undefined;
  readonly amount: number;
  readonly burst: number;
  readonly periodUs: number;
  readonly starts: readonly number[];
}

/** All budgets of a schema with the starts the ledger has of them. */
export async function budgets(sql: Sql, schema: string): Promise<Budget[]> {
  const queues = await sql(
    inSchema(
      schema,
      `SELECT q.name, l.amount::float8 AS amount, l.burst::float8 AS burst, l.period_us::float8 AS period,
        (SELECT string_agg(s::text, ',') FROM ledger g CROSS JOIN unnest(g.starts) AS s WHERE g.limit_id = l.id) AS starts
      FROM limits l JOIN queues q ON q.limit_id = l.id`,
    ),
  );
  const lanes = await sql(
    inSchema(
      schema,
      `SELECT q.name, n.partition, q.lane_burst::float8 AS burst, q.definition,
        (SELECT string_agg(u.start::text, ',') FROM ledger g CROSS JOIN unnest(g.starts, g.lanes) AS u (start, lane) WHERE u.lane = n.id) AS starts
      FROM lanes n JOIN queues q ON q.id = n.queue_id WHERE q.lane_interval_num IS NOT NULL`,
    ),
  );
  const startsOf = (row: Record<string, unknown>): number[] =>
    row["starts"] === null ? [] : String(row["starts"]).split(",").map(Number);
  return [
    ...queues.map((row) => ({
      queue: String(row["name"]),
      partition: undefined,
      amount: Number(row["amount"]),
      burst: Number(row["burst"]),
      periodUs: Number(row["period"]),
      starts: startsOf(row),
    })),
    ...lanes.map((row) => {
      const { partition } = JSON.parse(String(row["definition"])) as { partition: { rate: string } };
      return {
        queue: String(row["name"]),
        partition: String(row["partition"]),
        ...readRate(partition.rate),
        burst: Number(row["burst"]),
        starts: startsOf(row),
      };
    }),
  ];
}

/** Reads the normal form of a rate as definitions keep it, by itself: `20/s`, `5/250ms`, `7/0.7s`. */
function readRate(text: string): { amount: number; periodUs: number } {
  const [, amount, period, unit] = /^(\d+)\/([\d.]*)([a-zµ]+)$/.exec(text) ?? [];
  const units: Record<string, number> = { us: 1, µs: 1, ms: 1e3, s: 1e6, m: 60e6, h: 3600e6, d: 86_400e6 };
  const factor = units[unit ?? ""];
  if (factor === undefined) throw new Error(`cannot read the rate ${text}`);
  return { amount: Number(amount), periodUs: Number(period === "" ? 1 : period) * factor };
}

async function windowsOver(sql: Sql, schema: string, changed: ReadonlySet<string>): Promise<string[]> {
  const all = await budgets(sql, schema);
  return all.flatMap(({ queue, partition, amount, burst, periodUs, starts }) => {
    if (changed.has(queue)) return [];
    const most = mostInAnyWindow(starts, periodUs);
    if (most <= amount + burst - 1) return [];
    const place = partition === undefined ? "" : `, partition ${JSON.stringify(partition)}`;
    return [
      `queue ${queue}${place}: ${most} starts in a window of ${periodUs} µs, ${amount} + ${burst} - 1 are allowed`,
    ];
  });
}
