/**
 * A process of its own for `database-embedded.test.ts`: opens the data directory it is given, does as it is told and
 * reports line by line.
 */
import { embedded } from "../../src/embedded.ts";
import { isBusy, takeLock } from "../../src/store/embedded/lock.ts";

const [what, path, ...rest] = process.argv.slice(2) as [string, string, ...string[]];

function report(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Inserts numbers until it is killed; reports each one that was acknowledged. */
async function insertForEver(): Promise<void> {
  const db = await embedded(path).open();
  await db.script("CREATE TABLE IF NOT EXISTS numbers (n int4 PRIMARY KEY)");
  const insert = {
    name: "insert",
    text: "INSERT INTO numbers SELECT coalesce(max(n), 0) + 1 FROM numbers RETURNING n",
  };
  for (;;) {
    const rows = await Promise.all([db.query(insert), db.query(insert), db.query(insert)]);
    for (const [row] of rows) report(String(row?.["n"]));
  }
}

/** Holds the directory until it is killed. */
async function hold(): Promise<void> {
  const db = await embedded(path).open();
  await db.listen(
    "keeps the process alive",
    () => {},
    () => {},
  );
  report("open");
}

/** Ends the process in the middle of its work, without closing. */
async function exit(): Promise<void> {
  const db = await embedded(path).open();
  const insert = { name: "insert", text: "INSERT INTO numbers SELECT max(n) + 1 FROM numbers" };
  await db.script("CREATE TABLE numbers (n int4 PRIMARY KEY); INSERT INTO numbers VALUES (1)");
  for (let index = 0; index < 100; index += 1) void db.query(insert);
  setTimeout(() => process.exit(7), 20);
}

/** Uses the database, does not close it, and comes to the end of the program. */
async function forget(): Promise<void> {
  const db = await embedded(path).open();
  await db.query({ name: "one", text: "SELECT 1" });
  report("used");
}

/** Tries the locks `<path>-0`, `<path>-1`, … each at a time of its own; reports those it got. Keeps them. */
async function race(): Promise<void> {
  const [startAt, rounds, everyMs] = rest.map(Number) as [number, number, number];
  for (let round = 0; round < rounds; round += 1) {
    const at = startAt + round * everyMs;
    // To be as simultaneous as can be, the last stretch is spent spinning.
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, at - Date.now() - 5)));
    while (Date.now() < at);
    if (!isBusy(takeLock(`${path}-${round}`))) report(String(round));
  }
  report("done");
  setInterval(() => {}, 60_000);
}

const programs: Readonly<Record<string, () => Promise<void>>> = { insertForEver, hold, exit, forget, race };
await programs[what]?.();
