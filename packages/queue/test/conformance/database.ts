/**
 * What every database behind the port must do, whichever engine it is. `database.test.ts` holds each engine to it.
 */
import { isSluiceError } from "@sluice/core";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Database, Row, Statement } from "../../src/store/database.ts";

/** Opens a database that nobody else uses, or a share of one: the suite keeps to `schema`. */
export interface Subject {
  readonly name: string;
  /** Schema of this run; the suite creates it. */
  readonly schema: string;
  open(): Promise<Database>;
}

/** The database of a block of tests, and statements for it. */
interface Bench {
  readonly db: Database;
  readonly schema: string;
}

let lastName = 0;

/** A statement with a name of its own. */
function sql(text: string): Statement {
  lastName += 1;
  return { name: `conformance_${lastName}`, text };
}

/** Nine million steps: more than a second on either engine. */
const slow = sql(
  "SELECT count(*)::int4 AS n FROM generate_series(1, 3000) a, generate_series(1, 3000) b WHERE a <> b",
);

/** Runs the whole suite over one engine. */
export function databaseConformance(subject: Subject): void {
  describe(`a database: ${subject.name}`, () => {
    let opened: Database | undefined;
    const bench: Bench = {
      get db() {
        return opened as Database;
      },
      schema: subject.schema,
    };
    beforeAll(async () => {
      opened = await subject.open();
      await opened.script(`CREATE SCHEMA IF NOT EXISTS ${subject.schema}`);
    });
    afterAll(() => opened?.close());
    describe("values", () => valuesPass(bench));
    describe("statements", () => statementsRun(bench));
    describe("errors", () => errorsAreTranslated(bench));
    describe("scripts", () => scriptsAreOneTransaction(bench));
    describe("transactions", () => transactionsAreWhole(bench));
    describe("notifications", () => notificationsArrive(bench));
    describe("deadlines", () => deadlinesHold(bench));
    describe("closing", () => closingIsOrderly(subject));
  });
}

function valuesPass(bench: Bench): void {
  const one = async (text: string, values: (string | number | boolean | null | Uint8Array)[] = []) => {
    const [row] = await bench.db.query(sql(`SELECT ${text} AS value`), values);
    return (row as Row)["value"];
  };

  test("text, int4, float8, bool and NULL come out as string, number, number, boolean and null", async () => {
    const text =
      "SELECT 'a'::text AS t, ''::text AS e, 7::int4 AS i, 0.5::float8 AS f, true AS y, false AS n, NULL::text AS z";
    expect(await bench.db.query(sql(text))).toEqual([
      { t: "a", e: "", i: 7, f: 0.5, y: true, n: false, z: null },
    ]);
  });

  test.each([0, -1, 2147483647, -2147483648])("int4 %d passes both ways", async (value) => {
    expect(await one("$1::int4", [value])).toBe(value);
  });

  test.each([
    9007199254740991,
    1771000000123456,
    -0.1,
    1e-300,
    1.7976931348623157e308,
    Number.POSITIVE_INFINITY,
  ])("float8 %d passes both ways", async (value) => {
    expect(await one("$1::float8", [value])).toBe(value);
  });

  test("not a number is a number too", async () => {
    expect(await one("$1::float8", [Number.NaN])).toBeNaN();
  });

  test.each(["", "it's", '"quoted" \\ {a,b}', "line\nline\ttab\r", "日本語 🙂 ä", "$1", "NULL"])(
    "text %j passes both ways",
    async (value) => {
      expect(await one("$1::text", [value])).toBe(value);
    },
  );

  test("text of a megabyte passes both ways", async () => {
    const value = "0123456789abcdef".repeat(65_536);
    expect(await one("$1::text", [value])).toBe(value);
  });

  test("booleans and NULL pass both ways", async () => {
    expect(await one("$1::bool", [true])).toBe(true);
    expect(await one("$1::bool", [false])).toBe(false);
    expect(await one("$1::text", [null])).toBeNull();
  });

  test("a value that is undefined is NULL, in a transaction too, and what comes after it is served", async () => {
    const missing = undefined as unknown as null;
    const pair = sql("SELECT $1::text AS a, $2::int4 AS b");
    expect(await bench.db.query(pair, [missing, 1])).toEqual([{ a: null, b: 1 }]);
    expect(await bench.db.transaction((tx) => tx.query(pair, [missing, 2]))).toEqual([{ a: null, b: 2 }]);
    expect(await one("$1::text", ["still here"])).toBe("still here");
  });

  test("the statement gives a parameter its type, not the JavaScript value", async () => {
    expect(await one("$1::text", [5])).toBe("5");
    expect(await one("$1::int4 + 1", ["41"])).toBe(42);
    expect(await one("$1::text", [true])).toBe("true");
  });

  test("arrays go in as literals", async () => {
    expect(await one("(SELECT sum(x)::int4 FROM unnest($1::int4[]) x)", ["{1,2,3}"])).toBe(6);
    const words = '{plain,"with, comma","with \\"quotes\\"",NULL,""}';
    expect(await one("array_to_string($1::text[], '|', 'null')", [words])).toBe(
      'plain|with, comma|with "quotes"|null|',
    );
    expect(await one("cardinality($1::float8[])", ["{}"])).toBe(0);
  });

  test("JSON goes in as its text", async () => {
    expect(await one("($1::jsonb -> 'a' ->> 1)", ['{"a": ["x", "y"]}'])).toBe("y");
  });

  test("bytes go in as they are", async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
    expect(await one("encode($1::bytea, 'hex')", [bytes])).toBe(Buffer.from(bytes).toString("hex"));
  });
}

function statementsRun(bench: Bench): void {
  test("a statement that returns nothing gives no rows", async () => {
    const table = `${bench.schema}.quiet`;
    expect(await bench.db.query(sql(`CREATE TABLE ${table} (id int4)`))).toEqual([]);
    expect(await bench.db.query(sql(`INSERT INTO ${table} VALUES ($1)`), [1])).toEqual([]);
    expect(await bench.db.query(sql(`SELECT id FROM ${table} WHERE id > 1`))).toEqual([]);
    expect(await bench.db.query(sql(`DELETE FROM ${table} RETURNING id`))).toEqual([{ id: 1 }]);
  });

  test("a named statement runs again and again with other values", async () => {
    const double = sql("SELECT $1::int4 * 2 AS doubled");
    for (const value of [1, 2, 3])
      expect(await bench.db.query(double, [value])).toEqual([{ doubled: value * 2 }]);
  });

  test("every call gets its own answer, however many are in flight", async () => {
    const echo = sql("SELECT $1::int4 AS n, repeat('x', $1::int4 % 7) AS t");
    const answers = await Promise.all(Array.from({ length: 500 }, (_, n) => bench.db.query(echo, [n])));
    answers.forEach((rows, n) => {
      expect(rows).toEqual([{ n, t: "x".repeat(n % 7) }]);
    });
  });

  test("functions that return tables do so", async () => {
    await bench.db.script(`
      CREATE FUNCTION ${bench.schema}.pairs(n int4) RETURNS TABLE (id int4, label text) LANGUAGE plpgsql AS $$
      BEGIN
        FOR i IN 1..n LOOP
          id := i; label := 'no ' || i; RETURN NEXT;
        END LOOP;
      END $$`);
    const pairs = sql(`SELECT id, label FROM ${bench.schema}.pairs($1::int4)`);
    expect(await bench.db.query(pairs, [2])).toEqual([
      { id: 1, label: "no 1" },
      { id: 2, label: "no 2" },
    ]);
  });

  test("a name that was used for another text is refused", async () => {
    const first = sql("SELECT 1 AS n");
    await bench.db.query(first);
    const second = { name: first.name, text: "SELECT 2 AS n" };
    await expect(bench.db.query(second)).rejects.toMatchObject({ code: "invariant_broken" });
    expect(await bench.db.query(first)).toEqual([{ n: 1 }]);
  });

  test("a name that PostgreSQL would cut is refused", async () => {
    const statement = { name: "n".repeat(64), text: "SELECT 1 AS n" };
    await expect(bench.db.query(statement)).rejects.toMatchObject({ code: "invariant_broken" });
  });

  test("a statement whose columns a migration changed conflicts, runs nothing, and then works", async () => {
    const table = `${bench.schema}.growing`;
    await bench.db.script(`CREATE TABLE ${table} (id int4); INSERT INTO ${table} VALUES (1)`);
    const all = sql(`SELECT * FROM ${table}`);
    await bench.db.query(all);
    await bench.db.script(`ALTER TABLE ${table} ADD COLUMN label text DEFAULT 'new'`);
    const outcomes: unknown[] = [];
    // Each connection that had prepared it refuses once.
    while (!Array.isArray(outcomes.at(-1)) && outcomes.length < 20) {
      outcomes.push(await bench.db.query(all).catch((error: unknown) => error));
    }
    expect(outcomes.at(-1)).toEqual([{ id: 1, label: "new" }]);
    expect(outcomes.slice(0, -1).every((outcome) => isSluiceError(outcome, "store_conflict"))).toBe(true);
  });
}

function errorsAreTranslated(bench: Bench): void {
  test("an error keeps its SQLSTATE, its particulars and its cause", async () => {
    await bench.db.script(`CREATE TABLE ${bench.schema}.once (id int4 CONSTRAINT only_once PRIMARY KEY)`);
    const insert = sql(`INSERT INTO ${bench.schema}.once VALUES ($1)`);
    await bench.db.query(insert, [1]);
    const error = await bench.db.query(insert, [1]).catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      code: "invariant_broken",
      details: { sqlstate: "23505", constraint: "only_once" },
    });
    expect((error as Error).message).toContain("duplicate key");
    expect((error as Error).cause).toMatchObject({ code: "23505" });
  });

  test("a statement that failed runs again", async () => {
    const divide = sql("SELECT 10 / $1::int4 AS n");
    expect(await bench.db.query(divide, [5])).toEqual([{ n: 2 }]);
    await expect(bench.db.query(divide, [0])).rejects.toMatchObject({ details: { sqlstate: "22012" } });
    expect(await bench.db.query(divide, [2])).toEqual([{ n: 5 }]);
  });

  test("a statement that failed at its first use runs too", async () => {
    const divide = sql("SELECT 10 / $1::int4 AS n");
    await expect(bench.db.query(divide, [0])).rejects.toMatchObject({ details: { sqlstate: "22012" } });
    expect(await bench.db.query(divide, [2])).toEqual([{ n: 5 }]);
  });

  test.each([
    ["40001", "store_conflict"],
    ["40P01", "store_conflict"],
    ["53300", "store_unavailable"],
    ["57014", "store_timeout"],
    ["XY999", "invariant_broken"],
  ])("SQLSTATE %s becomes %s", async (sqlstate, code) => {
    const raise = `DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = '${sqlstate}'; END $$`;
    await expect(bench.db.query(sql(raise))).rejects.toMatchObject({ code, details: { sqlstate } });
  });

  test("bad SQL and bad parameters fail alone", async () => {
    const good = sql("SELECT 1 AS n");
    const outcomes = await Promise.allSettled([
      bench.db.query(good),
      bench.db.query(sql("SELEC 1")),
      bench.db.query(sql("SELECT $1::int4 AS n"), ["no number"]),
      bench.db.query(sql("SELECT $1::text AS n"), ["nul \0 byte"]),
      bench.db.query(good),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual([
      "fulfilled",
      "rejected",
      "rejected",
      "rejected",
      "fulfilled",
    ]);
  });
}

function scriptsAreOneTransaction(bench: Bench): void {
  test("a script runs all its statements", async () => {
    const table = `${bench.schema}.scripted`;
    await bench.db.script(
      `CREATE TABLE ${table} (id int4); INSERT INTO ${table} VALUES (1), (2); -- the end`,
    );
    expect(await bench.db.query(sql(`SELECT count(*)::int4 AS n FROM ${table}`))).toEqual([{ n: 2 }]);
  });

  test("a script that fails leaves nothing behind", async () => {
    const table = `${bench.schema}.undone`;
    const script = `CREATE TABLE ${table} (id int4); INSERT INTO ${table} VALUES (1); SELECT 1 / 0;`;
    await expect(bench.db.script(script)).rejects.toMatchObject({ details: { sqlstate: "22012" } });
    const exists = sql("SELECT to_regclass($1) IS NOT NULL AS present");
    expect(await bench.db.query(exists, [table])).toEqual([{ present: false }]);
  });

  test("settings made with SET LOCAL end with the script", async () => {
    await bench.db.script("SET LOCAL search_path TO pg_temp; SELECT 1");
    expect(await bench.db.query(sql("SELECT current_setting('search_path') = 'pg_temp' AS kept"))).toEqual([
      { kept: false },
    ]);
  });
}

function transactionsAreWhole(bench: Bench): void {
  let table = "";
  let insert: Statement;
  let count: Statement;
  const rows = async (): Promise<unknown> => (await bench.db.query(count))[0]?.["n"];
  beforeAll(async () => {
    table = `${bench.schema}.ledger`;
    await bench.db.script(`CREATE TABLE ${table} (id int4 PRIMARY KEY)`);
    insert = sql(`INSERT INTO ${table} VALUES ($1)`);
    count = sql(`SELECT count(*)::int4 AS n FROM ${table}`);
  });

  test("work that resolves is committed, and its result handed on", async () => {
    const before = Number(await rows());
    const result = await bench.db.transaction(async (tx) => {
      await tx.query(insert, [1]);
      await tx.query(insert, [2]);
      return "done";
    });
    expect(result).toBe("done");
    expect(await rows()).toBe(before + 2);
  });

  test("work that rejects is rolled back, and its own error handed on", async () => {
    const before = await rows();
    const reason = new Error("changed my mind");
    const attempt = bench.db.transaction(async (tx) => {
      await tx.query(insert, [3]);
      throw reason;
    });
    await expect(attempt).rejects.toBe(reason);
    expect(await rows()).toBe(before);
  });

  test("others never see half of it", async () => {
    const before = Number(await rows());
    const seen: unknown[] = [];
    const watch: Promise<unknown>[] = [];
    await bench.db.transaction(async (tx) => {
      await tx.query(insert, [10]);
      watch.push(rows().then((n) => seen.push(n)));
      await tx.query(insert, [11]);
      watch.push(rows().then((n) => seen.push(n)));
    });
    await Promise.all(watch);
    expect(seen.length).toBe(2);
    expect(seen.every((n) => n === before || n === before + 2)).toBe(true);
  });

  test("a failure that the work swallows still fails the transaction", async () => {
    const before = await rows();
    const attempt = bench.db.transaction(async (tx) => {
      await tx.query(insert, [20]);
      await tx.query(insert, [20]).catch(() => {});
    });
    await expect(attempt).rejects.toMatchObject({ details: { sqlstate: "23505" } });
    expect(await rows()).toBe(before);
  });

  test("statements that the work does not await run before the commit", async () => {
    const before = Number(await rows());
    await bench.db.transaction(async (tx) => {
      void Promise.all([tx.query(insert, [30]), tx.query(insert, [31])]);
    });
    expect(await rows()).toBe(before + 2);
  });

  test("a transaction that is over takes no more statements", async () => {
    let late: Promise<unknown> | undefined;
    await bench.db.transaction(async (tx) => {
      setImmediate(() => {
        late = tx.query(insert, [40]).catch((error: unknown) => error);
      });
    });
    await vi.waitFor(() => expect(late).toBeDefined());
    expect(await late).toMatchObject({ code: "closed" });
  });

  test("many at once all commit", async () => {
    const before = Number(await rows());
    const ids = Array.from({ length: 40 }, (_, index) => 1000 + index);
    await Promise.all(ids.map((id) => bench.db.transaction((tx) => tx.query(insert, [id]))));
    expect(await rows()).toBe(before + 40);
  });
}

function notificationsArrive(bench: Bench): void {
  const notify = sql("SELECT pg_notify($1, $2)::text");
  const send = (channel: string, payload: string) => bench.db.query(notify, [channel, payload]);

  test("a subscriber hears its channel and no other", async () => {
    const heard: string[] = [];
    const stop = await bench.db.listen(
      "one",
      (payload) => heard.push(payload),
      () => {},
    );
    await send("two", "not for us");
    await send("one", "for us");
    await vi.waitFor(() => expect(heard).toEqual(["for us"]));
    await stop();
  });

  test("channels may have any name", async () => {
    const heard: string[] = [];
    const channel = 'Ünlikely "name"; drop';
    const stop = await bench.db.listen(
      channel,
      (payload) => heard.push(payload),
      () => {},
    );
    await send(channel, "");
    await vi.waitFor(() => expect(heard).toEqual([""]));
    await stop();
  });

  test("messages of a transaction come after its commit, and never after a rollback", async () => {
    const heard: string[] = [];
    const stop = await bench.db.listen(
      "tx",
      (payload) => heard.push(payload),
      () => {},
    );
    const failing = bench.db.transaction(async (tx) => {
      await tx.query(notify, ["tx", "rolled back"]);
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    await bench.db.transaction(async (tx) => {
      await tx.query(notify, ["tx", "committed"]);
      expect(heard).toEqual([]);
    });
    await vi.waitFor(() => expect(heard).toEqual(["committed"]));
    await stop();
  });

  test("subscribers of one channel come and go by themselves", async () => {
    const first: string[] = [];
    const second: string[] = [];
    const stopFirst = await bench.db.listen(
      "shared",
      (payload) => first.push(payload),
      () => {},
    );
    const stopSecond = await bench.db.listen(
      "shared",
      (payload) => second.push(payload),
      () => {},
    );
    await send("shared", "a");
    await vi.waitFor(() => expect([first, second]).toEqual([["a"], ["a"]]));
    await stopFirst();
    await send("shared", "b");
    await vi.waitFor(() => expect(second).toEqual(["a", "b"]));
    expect(first).toEqual(["a"]);
    await stopSecond();
    await stopSecond();
  });
}

function deadlinesHold(bench: Bench): void {
  test("a call past its deadline rejects with store_timeout, and the next ones work", async () => {
    const error = await bench.db.query(slow, [], { deadlineMs: 30 }).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "store_timeout", retryable: true, details: { deadlineMs: 30 } });
    expect(await bench.db.query(sql("SELECT 1 AS n"))).toEqual([{ n: 1 }]);
  });

  test("a transaction in which a statement ran out of time is rolled back", async () => {
    const table = `${bench.schema}.timed`;
    await bench.db.script(`CREATE TABLE ${table} (id int4)`);
    const attempt = bench.db.transaction(async (tx) => {
      await tx.query(sql(`INSERT INTO ${table} VALUES (1)`));
      await tx.query(slow, [], { deadlineMs: 30 });
    });
    await expect(attempt).rejects.toMatchObject({ code: "store_timeout" });
    expect(await bench.db.query(sql(`SELECT count(*)::int4 AS n FROM ${table}`))).toEqual([{ n: 0 }]);
  });
}

function closingIsOrderly(subject: Subject): void {
  test("closing waits for calls in flight, and later calls reject", async () => {
    const db = await subject.open();
    const inFlight = Promise.all([db.query(slow), db.transaction((tx) => tx.query(sql("SELECT 1 AS n")))]);
    const closed = db.close();
    await expect(db.query(sql("SELECT 1"))).rejects.toMatchObject({ code: "closed" });
    await expect(db.script("SELECT 1")).rejects.toMatchObject({ code: "closed" });
    await expect(db.transaction(async () => {})).rejects.toMatchObject({ code: "closed" });
    await expect(
      db.listen(
        "c",
        () => {},
        () => {},
      ),
    ).rejects.toMatchObject({ code: "closed" });
    expect(await inFlight).toEqual([[{ n: 8_997_000 }], [{ n: 1 }]]);
    await closed;
    await db.close();
  });

  test("closing ends subscriptions without a word", async () => {
    const db = await subject.open();
    const lost: string[] = [];
    const stop = await db.listen(
      "c",
      () => {},
      () => lost.push("lost"),
    );
    await db.close();
    await stop();
    expect(lost).toEqual([]);
  });
}
