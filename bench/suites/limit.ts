/**
 * Limits beside their peers, in parts: in process, on Redis, on PostgreSQL and with leases. Each part is a module of
 * `bench/limit/`; `--part NAME` picks some.
 */
import type { Table } from "../harness/report.ts";
import type { Context, Suite } from "./suite.ts";

/** The parts in the order in which they run. */
export const limitParts = ["in-process", "redis", "postgres", "leases"] as const;

/** What each part exports. */
interface Part {
  run(context: Context): Promise<Table[]>;
}

/** The benchmark `limit`. */
export const limit: Suite = {
  description: "cost of a decision in process, on Redis, on PostgreSQL and with leases, beside the peers",
  async run(context) {
    const tables: Table[] = [];
    for (const name of context.settings.parts ?? limitParts) {
      context.say(`limit: ${name}`);
      const part = (await import(`../limit/${name}.ts`)) as Part;
      tables.push(...(await part.run(context)));
    }
    return tables;
  },
};
