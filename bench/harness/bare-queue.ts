/**
 * The floor under any queue on PostgreSQL: tasks claimed and completed a hundred at a time in bare SQL, two commits
 * for each hundred, one connection, nothing else done. Once driven from Node.js, once by pgbench.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import type { Done } from "./engine-process.ts";
import { monotonicUs } from "./monotonic-clock.ts";

const batch = 100;

const claimSql = `UPDATE bare SET state = 'r' WHERE id IN (
  SELECT id FROM bare WHERE state = 'w' ORDER BY id LIMIT ${batch} FOR UPDATE SKIP LOCKED) RETURNING id`;

async function openFilled(url: string, count: number): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(
    `CREATE TABLE bare (id bigint PRIMARY KEY, state "char" NOT NULL DEFAULT 'w', payload text NOT NULL)`,
  );
  await client.query(`CREATE INDEX bare_waiting ON bare (id) WHERE state = 'w'`);
  await client.query(
    `INSERT INTO bare (id, payload) SELECT n, '{"n":' || n || ',"lane":0}' FROM generate_series(1, $1) n`,
    [count],
  );
  await client.query("VACUUM ANALYZE bare");
  await client.query("CHECKPOINT");
  return client;
}

/** Drains `count` rows from Node.js on one connection. */
export async function drainFromNode(url: string, count: number): Promise<Done> {
  const client = await openFilled(url, count);
  const startUs = monotonicUs();
  let done = 0;
  for (;;) {
    const { rows } = await client.query<{ id: string }>({ name: "claim", text: claimSql });
    if (rows.length === 0) break;
    const ids = rows.map((row) => row.id);
    await client.query({
      name: "complete",
      text: "DELETE FROM bare WHERE id = ANY ($1::bigint[])",
      values: [ids],
    });
    done += ids.length;
  }
  const seconds = (monotonicUs() - startUs) / 1e6;
  await client.end();
  return { count: done, seconds };
}

const pgbenchScript = `WITH claimed AS (${claimSql.replaceAll("\n", " ")})
SELECT array_agg(id)::text AS ids FROM claimed \\gset
DELETE FROM bare WHERE id = ANY (:ids::bigint[]);
`;

/** The same by pgbench, one connection. Rejects with ENOENT where there is no pgbench. */
export async function drainByPgbench(url: string, count: number): Promise<Done> {
  const client = await openFilled(url, count);
  const folder = mkdtempSync(join(tmpdir(), "sluice-bench-"));
  try {
    const script = join(folder, "drain.sql");
    writeFileSync(script, pgbenchScript);
    const args = [
      "-n",
      "-M",
      "prepared",
      "-c",
      "1",
      "-t",
      String(Math.floor(count / batch)),
      "-f",
      script,
      url,
    ];
    const { stdout } = await promisify(execFile)("pgbench", args, { timeout: 120_000 });
    const perSecond = Number(/tps = ([\d.]+)/.exec(stdout)?.[1]);
    return { count, seconds: count / (perSecond * batch) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await client.end();
  }
}
