import { embedded } from "../../src/embedded.ts";
import { keptOpen, sqlOf } from "./engine.ts";
import { queueConformance } from "./queue.ts";

const database = await embedded("memory://").open();
const source = keptOpen(database);

queueConformance({
  name: "embedded",
  schema: "sluice",
  url: undefined,
  database: () => source,
  sql: sqlOf(database),
  close: () => database.close(),
});
