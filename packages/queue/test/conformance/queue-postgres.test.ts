import pg from "pg";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { queueConformance } from "./queue.ts";

const { url, schema } = freshDatabase("queue");
const pool = new pg.Pool({ connectionString: url, max: 2 });

queueConformance({
  name: "postgres",
  schema,
  url,
  database: () => url,
  sql: async (text) => (await pool.query<Record<string, unknown>>(text)).rows,
  close: () => pool.end(),
});
