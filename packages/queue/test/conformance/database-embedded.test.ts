/** What only the embedded database can show: its directory, its lock, its thread, its end. */
import { type ChildProcess, spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { type EmbeddedOptions, embedded } from "../../src/embedded.ts";
import type { Database, Row, Statement } from "../../src/store/database.ts";

const folder = mkdtempSync(join(tmpdir(), "sluice-embedded-"));
const opened: Database[] = [];
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await Promise.all(opened.splice(0).map((db) => db.close()));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function open(path: string, options?: EmbeddedOptions): Promise<Database> {
  const db = await embedded(path, options).open();
  opened.push(db);
  return db;
}

let lastPath = 0;
function freshPath(): string {
  lastPath += 1;
  return join(folder, `data-${lastPath}`);
}

let lastName = 0;
function sql(text: string): Statement {
  lastName += 1;
  return { name: `embedded_${lastName}`, text };
}

const one = sql("SELECT 1 AS n");
/** Runs for minutes: only ending the engine ends it. */
const endless = sql(
  "SELECT count(*)::float8 AS n FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a <> b",
);
/** Runs for a second or two. */
const slow = sql(
  "SELECT count(*)::int4 AS n FROM generate_series(1, 2000) a, generate_series(1, 2000) b WHERE a <> b",
);

interface Child {
  readonly process: ChildProcess;
  readonly lines: string[];
  readonly exit: Promise<number | null>;
}

/** Starts `database-child.ts`; what it reports is in `lines`. */
function startChild(...args: string[]): Child {
  return startProgram(fileURLToPath(new URL("./database-child.ts", import.meta.url)), ...args);
}

function startProgram(program: string, ...args: string[]): Child {
  const child = spawn(process.execPath, ["--conditions=@sluice/source", program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  const lines: string[] = [];
  let rest = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split("\n");
    rest = parts.pop() as string;
    lines.push(...parts);
  });
  const exit = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  return { process: child, lines, exit };
}

const patient = { timeout: 30_000, interval: 20 };

describe("the data directory", () => {
  test("is created with its parents, and keeps what is in it", async () => {
    const path = join(freshPath(), "deep", "inside");
    const first = await embedded(path).open();
    await first.script("CREATE TABLE t (id int4); INSERT INTO t VALUES (1)");
    await first.close();
    expect(readdirSync(path)).toEqual(["postgres"]);
    const second = await open(path);
    expect(await second.query(sql("SELECT id FROM t"))).toEqual([{ id: 1 }]);
    expect(readdirSync(path).sort()).toEqual(["lock", "postgres"]);
  });

  test("that was being created when its process died is created anew", async () => {
    const path = freshPath();
    mkdirSync(join(path, "postgres", "base"), { recursive: true });
    writeFileSync(join(path, "postgres", "PG_VERSION"), "18\n");
    writeFileSync(join(path, "creating"), "");
    const db = await open(path);
    expect(await db.query(one)).toEqual([{ n: 1 }]);
    expect(existsSync(join(path, "creating"))).toBe(false);
  });

  test.each([
    ["a file", (path: string) => writeFileSync(path, "")],
    ["below a file", (path: string) => writeFileSync(join(path, ".."), "")],
    [
      "a directory with other things in it",
      (path: string) => mkdirSync(join(path, "src"), { recursive: true }),
    ],
    [
      "a directory whose postgres is none",
      (path: string) => mkdirSync(join(path, "postgres", "x"), { recursive: true }),
    ],
    [
      "a damaged database",
      (path: string) => {
        mkdirSync(join(path, "postgres"), { recursive: true });
        writeFileSync(join(path, "postgres", "PG_VERSION"), "18\n");
      },
    ],
  ])("that is %s is unusable, and left as it was", async (_what, make) => {
    const path = join(freshPath(), "");
    const target = _what === "below a file" ? join(path, "inner") : path;
    make(target);
    await expect(open(target)).rejects.toMatchObject({ code: "data_directory_unusable" });
    expect(existsSync(join(target, "lock"))).toBe(false);
  });

  test("that the system has no place for is unusable, and asking for it ends", {
    timeout: 20_000,
  }, async () => {
    // Node's own recursive mkdir never returns here.
    await expect(open("/proc/sluice")).rejects.toMatchObject({ code: "data_directory_unusable" });
  });

  test.each(["", "idb://somewhere", "nul\0byte", 5, undefined])("%j is no data directory", (path) => {
    expect(() => embedded(path as string)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });

  test.each([{ deadlineMs: 0 }, { stuckMs: "long" }, { surprise: 1 }])("%j are no options", (options) => {
    expect(() => embedded("memory://", options as EmbeddedOptions)).toThrow(
      expect.objectContaining({ code: "invalid_option" }),
    );
  });
});

describe("the lock", () => {
  test("keeps this process from opening the directory twice", async () => {
    const path = freshPath();
    await open(path);
    await expect(open(path)).rejects.toMatchObject({
      code: "data_directory_in_use",
      details: { pid: process.pid },
    });
  });

  test("keeps other processes out while its holder lives, and falls to them when it is killed", async () => {
    const path = freshPath();
    const holder = startChild("hold", path);
    await vi.waitFor(() => expect(holder.lines).toEqual(["open"]), patient);
    await expect(open(path)).rejects.toMatchObject({
      code: "data_directory_in_use",
      message: expect.stringContaining(String(holder.process.pid)),
      details: { pid: holder.process.pid },
    });
    holder.process.kill("SIGKILL");
    await holder.exit;
    expect(existsSync(join(path, "lock"))).toBe(true);
    expect(await (await open(path)).query(one)).toEqual([{ n: 1 }]);
  });

  test("is released when the process exits without closing", async () => {
    const path = freshPath();
    const child = startChild("exit", path);
    expect(await child.exit).toBe(7);
    expect(existsSync(join(path, "lock"))).toBe(false);
    const [row] = await (await open(path)).query(
      sql("SELECT count(*)::int4 AS n, max(n) AS most FROM numbers"),
    );
    expect(row?.["n"]).toBe(row?.["most"]);
  });

  test("does not keep a process alive that has come to its end", async () => {
    const path = freshPath();
    const child = startChild("forget", path);
    expect(await child.exit).toBe(0);
    expect(child.lines).toEqual(["used"]);
    expect(existsSync(join(path, "lock"))).toBe(false);
  });

  test("falls to exactly one of several that take it over at once", async () => {
    const [rounds, everyMs, racers] = [60, 15, 3];
    const file = join(folder, "race");
    // The stale lock: one that a process took and left behind when it was killed.
    const gone = startChild("race", join(folder, "sample"), String(Date.now()), "1", "0");
    await vi.waitFor(() => expect(gone.lines).toEqual(["0", "done"]), patient);
    gone.process.kill("SIGKILL");
    await gone.exit;
    const stale = readFileSync(join(folder, "sample-0"), "utf8");
    for (let round = 0; round < rounds; round += 1) writeFileSync(`${file}-${round}`, stale);
    const startAt = String(Date.now() + 3000);
    const all = Array.from({ length: racers }, () =>
      startChild("race", file, startAt, String(rounds), String(everyMs)),
    );
    for (const { lines } of all) await vi.waitFor(() => expect(lines.at(-1)).toBe("done"), patient);
    const won = all.flatMap(({ lines }) => lines.slice(0, -1).map(Number)).sort((a, b) => a - b);
    expect(won).toEqual(Array.from({ length: rounds }, (_, round) => round));
    // Nothing of the take-overs is left.
    expect(readdirSync(folder).filter((name) => /^race-\d+\./.test(name))).toEqual([]);
  }, 90_000);
});

describe("a process that is killed", () => {
  test("loses no acknowledged row, time after time", async () => {
    const path = freshPath();
    let acknowledged = 0;
    for (let round = 0; round < 3; round += 1) {
      const child = startChild("insertForEver", path);
      const enough = acknowledged + 200 + round * 150;
      await vi.waitFor(() => expect(Number(child.lines.at(-1) ?? 0)).toBeGreaterThan(enough), patient);
      child.process.kill("SIGKILL");
      await child.exit;
      acknowledged = Number(child.lines.at(-1));
    }
    const db = await open(path);
    const [row] = await db.query(sql("SELECT count(*)::int4 AS n, max(n) AS most FROM numbers"));
    const { n, most } = row as Row & { n: number; most: number };
    expect(n).toBe(most);
    expect(most).toBeGreaterThanOrEqual(acknowledged);
    // At most what was in flight at the last kill.
    expect(most).toBeLessThanOrEqual(acknowledged + 6);
  }, 120_000);
});

describe("the thread", () => {
  test("leaves the event loop alone", async () => {
    const db = await open("memory://");
    let worstMs = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      worstMs = Math.max(worstMs, performance.now() - last);
      last = performance.now();
    }, 5);
    await Promise.all([db.query(slow), db.query(slow)]);
    clearInterval(timer);
    // On the main thread each statement would have been one gap of half a second and more.
    expect(worstMs).toBeLessThan(250);
  });

  test("hands back answers in the order of the calls, and transactions alone", async () => {
    const db = await open("memory://");
    const order: string[] = [];
    await Promise.all([
      db.query(one).then(() => order.push("first")),
      db.transaction(async (tx) => {
        await tx.query(one);
        order.push("inside");
        await tx.query(one);
      }),
      db.query(one).then(() => order.push("after")),
    ]);
    expect(order).toEqual(["first", "inside", "after"]);
  });

  test("is ended if a statement goes on long after its deadline, and started anew on the same data", async () => {
    const db = await open(freshPath(), { stuckMs: 100 });
    await db.script("CREATE TABLE t (id int4); INSERT INTO t VALUES (1)");
    const heard: string[] = [];
    await db.listen(
      "c",
      (payload) => heard.push(payload),
      () => heard.push("lost"),
    );
    const behind = db.query(sql("INSERT INTO t VALUES (2)"), [], { deadlineMs: 60_000 }).catch(() => {});
    await behind;
    const overdue = db.query(endless, [], { deadlineMs: 100 });
    const waiting = db.query(one, [], { deadlineMs: 60_000 });
    await expect(overdue).rejects.toMatchObject({ code: "store_timeout" });
    await expect(waiting).rejects.toMatchObject({ code: "store_unavailable", retryable: true });
    expect(await db.query(sql("SELECT id FROM t ORDER BY id"))).toEqual([{ id: 1 }, { id: 2 }]);
    expect(heard).toEqual(["lost"]);
    await db.query(sql("SELECT pg_notify('c', 'again')::text"));
    await vi.waitFor(() => expect(heard).toEqual(["lost", "again"]));
  });

  test("takes a database in memory with it when it is ended", async () => {
    const db = await open("memory://", { stuckMs: 50 });
    await expect(db.query(endless, [], { deadlineMs: 50 })).rejects.toMatchObject({ code: "store_timeout" });
    await vi.waitFor(async () => {
      await expect(db.query(one, [], { deadlineMs: 50 })).rejects.toMatchObject({
        code: "store_unavailable",
      });
    });
  });

  test("goes on with the next call when a statement ends soon after its deadline", async () => {
    const db = await open("memory://");
    await expect(db.query(slow, [], { deadlineMs: 20 })).rejects.toMatchObject({ code: "store_timeout" });
    expect(await db.query(one)).toEqual([{ n: 1 }]);
  });
});

describe("a transaction that never ends", () => {
  test("is rolled back after the deadline, and the others go on", async () => {
    const db = await open("memory://", { deadlineMs: 300 });
    await db.script("CREATE TABLE t (id int4)");
    const hanging = db.transaction(async (tx) => {
      await tx.query(sql("INSERT INTO t VALUES (1)"));
      await new Promise(() => {});
    });
    await expect(hanging).rejects.toMatchObject({ code: "store_timeout" });
    expect(await db.query(sql("SELECT count(*)::int4 AS n FROM t"))).toEqual([{ n: 0 }]);
  });

  test("because it waits for a call outside of itself fails by that call's deadline", async () => {
    const db = await open("memory://", { deadlineMs: 5000 });
    const attempt = db.transaction(() => db.query(one, [], { deadlineMs: 50 }));
    await expect(attempt).rejects.toMatchObject({
      code: "store_timeout",
      message: expect.stringContaining("it never ran"),
    });
    expect(await db.query(one)).toEqual([{ n: 1 }]);
  });
});

describe("PGlite", () => {
  test("that is not installed is asked for by name", async () => {
    const home = join(folder, "without");
    const source = fileURLToPath(new URL("../../src/", import.meta.url));
    const core = fileURLToPath(new URL("../../../core", import.meta.url));
    cpSync(join(source, "store"), join(home, "store"), { recursive: true });
    cpSync(join(source, "embedded.ts"), join(home, "embedded.ts"));
    mkdirSync(join(home, "node_modules", "@sluice"), { recursive: true });
    symlinkSync(core, join(home, "node_modules", "@sluice", "core"));
    writeFileSync(
      join(home, "main.ts"),
      `import { embedded } from "./embedded.ts";
       await embedded(${JSON.stringify(freshPath())}).open().catch((error) => console.log(error.code + " " + error.message));`,
    );
    const child = startProgram(join(home, "main.ts"));
    expect(await child.exit).toBe(0);
    expect(child.lines).toEqual([
      expect.stringMatching(/^invalid_option .*npm install @electric-sql\/pglite@\d+\.\d+\.\d+/),
    ]);
  });
});

describe("maintenance", () => {
  test("vacuums what changed, and writes a checkpoint when the log has grown", async () => {
    const db = await open(freshPath(), { maintenanceMs: 50 });
    await db.script("CREATE TABLE hot (id int4, text text)");
    const log = sql(`
      SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 / 1e6 AS written,
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), redo_lsn)::float8 / 1e6 AS open
      FROM pg_control_checkpoint()`);
    const megabytes = async () => (await db.query(log))[0] as { written: number; open: number };
    const before = await megabytes();
    while ((await megabytes()).written < before.written + 70) {
      await db.script(
        "INSERT INTO hot SELECT g, repeat('x', 500) FROM generate_series(1, 8000) g; DELETE FROM hot",
      );
    }
    const vacuumed = sql(
      "SELECT last_vacuum IS NOT NULL AND n_dead_tup < 1000 AS done FROM pg_stat_user_tables WHERE relname = 'hot'",
    );
    await vi.waitFor(async () => expect(await db.query(vacuumed)).toEqual([{ done: true }]), patient);
    await vi.waitFor(async () => expect((await megabytes()).open).toBeLessThan(60), patient);
  });
});
