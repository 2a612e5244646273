/** Opens an app on a database, uses it, and closes it: one of many that do so at once. */
import { sluice } from "../../src/index.ts";

const [url, schema] = process.argv.slice(2);
const app = await sluice({ database: url!, schema: schema! });
const queue = app.queue("shared", { rate: "5/1s", partition: { concurrency: 1 } });
const { id } = await queue.enqueue("t", process.pid, { partition: "p" });
process.stdout.write((await app.get(id))!.state);
await app.close();
