/** What only PostgreSQL can show: connections that break, servers that restart, pools of the user's own. */

import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type PostgresServer, startPostgres } from "../../../../tools/servers/postgres.ts";
import { databaseUrl, freshSchema } from "../../../../tools/testing/database.ts";
import type { Database, Statement } from "../../src/store/database.ts";
import { openPostgres, type PostgresOptions } from "../../src/store/postgres.ts";

const opened: Database[] = [];
const servers: Server[] = [];

afterEach(async () => {
  await Promise.all(opened.splice(0).map((db) => db.close()));
  for (const server of servers.splice(0)) server.close();
});

async function open(source: string | pg.Pool, options?: PostgresOptions): Promise<Database> {
  const db = await openPostgres(source, options);
  opened.push(db);
  return db;
}

let lastName = 0;
function sql(text: string): Statement {
  lastName += 1;
  return { name: `postgres_${lastName}`, text };
}

const one = sql("SELECT 1 AS n");
const sleep = sql("SELECT pg_sleep(30)::text AS slept");
const backend = sql("SELECT pg_backend_pid() AS pid");
const sleepers = sql(
  "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'SELECT pg_sleep(30)%' AND state = 'active'",
);
const terminate = sql("SELECT pg_terminate_backend($1::int4) AS done");

/** The backends of an application that sleep, as soon as there are `count`. */
async function untilAsleep(watcher: Database, application: string, count: number): Promise<number[]> {
  return vi.waitFor(
    async () => {
      const rows = await watcher.query(sleepers, [application]);
      expect(rows.length).toBe(count);
      return rows.map((row) => Number(row["pid"]));
    },
    { timeout: 20_000 },
  );
}

describe("connections", () => {
  test("calls in flight run side by side", async () => {
    const db = await open(databaseUrl());
    const key = 711_001;
    const answer = await db.transaction(async (tx) => {
      await tx.query(sql("SELECT pg_advisory_xact_lock($1::int4)::text"), [key]);
      // Another connection cannot have the lock, and yet another one answers while this transaction goes on.
      const [tried] = await db.query(sql("SELECT pg_try_advisory_xact_lock($1::int4) AS got"), [key]);
      return tried?.["got"];
    });
    expect(answer).toBe(false);
  });

  test("more calls than connections wait for one, until their deadline", async () => {
    const db = await open(databaseUrl(), { max: 1, applicationName: "sluice-narrow" });
    const watcher = await open(databaseUrl());
    const busy = Promise.allSettled([
      db.query(sleep, [], { deadlineMs: 3000 }),
      db.query(sleep, [], { deadlineMs: 3000 }),
    ]);
    await untilAsleep(watcher, "sluice-narrow", 2);
    await expect(db.query(one, [], { deadlineMs: 50 })).rejects.toMatchObject({
      code: "store_timeout",
      message: expect.stringContaining("no connection became free"),
    });
    expect((await busy).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await db.query(one)).toEqual([{ n: 1 }]);
  });

  test("a backend that is terminated in the middle of a call fails that call alone", async () => {
    const db = await open(databaseUrl(), { applicationName: "sluice-victim" });
    const watcher = await open(databaseUrl());
    const doomed = db.query(sleep).catch((error: unknown) => error);
    const [pid] = await untilAsleep(watcher, "sluice-victim", 1);
    await watcher.query(terminate, [pid as number]);
    expect(await doomed).toMatchObject({ code: "store_unavailable", retryable: true });
    expect(await db.query(one)).toEqual([{ n: 1 }]);
  });

  test("a backend that is terminated between two statements of a transaction fails the transaction", async () => {
    const db = await open(databaseUrl());
    const attempt = db.transaction(async (tx) => {
      const [row] = await tx.query(backend);
      await db.query(terminate, [Number(row?.["pid"])]);
      return tx.query(one);
    });
    await expect(attempt).rejects.toMatchObject({ code: "store_unavailable" });
    expect(await db.query(one)).toEqual([{ n: 1 }]);
  });

  test("an idle connection that is terminated is replaced in silence", async () => {
    const db = await open(databaseUrl());
    const watcher = await open(databaseUrl());
    const [row] = await db.query(backend);
    await watcher.query(terminate, [Number(row?.["pid"])]);
    const gone = sql("SELECT count(*)::int4 AS n FROM pg_stat_activity WHERE pid = $1::int4");
    await vi.waitFor(async () =>
      expect(await watcher.query(gone, [Number(row?.["pid"])])).toEqual([{ n: 0 }]),
    );
    // The pool hears of it at the earliest in a later turn of the event loop; a call before that fails retryably.
    await vi.waitFor(async () => expect(await db.query(one)).toEqual([{ n: 1 }]));
  });

  test("a statement abandoned at its deadline while it waits for a lock does not run later", async () => {
    const schema = freshSchema("abandoned");
    const db = await open(databaseUrl(), { applicationName: "sluice-abandoner" });
    const watcher = await open(databaseUrl());
    await db.script(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.t (id int4)`);
    const insert = sql(`INSERT INTO ${schema}.t VALUES (1)`);
    const waiting = sql(
      "SELECT count(*)::int4 AS n FROM pg_stat_activity WHERE application_name = 'sluice-abandoner' AND wait_event_type = 'Lock'",
    );
    await watcher.transaction(async (tx) => {
      await tx.query(sql(`LOCK TABLE ${schema}.t IN ACCESS EXCLUSIVE MODE`));
      await expect(db.query(insert, [], { deadlineMs: 200 })).rejects.toMatchObject({
        code: "store_timeout",
      });
      await vi.waitFor(async () => expect(await tx.query(waiting)).toEqual([{ n: 0 }]), { timeout: 20_000 });
    });
    expect(await db.query(sql(`SELECT count(*)::int4 AS n FROM ${schema}.t`))).toEqual([{ n: 0 }]);
    await db.script(`DROP SCHEMA ${schema} CASCADE`);
  });

  test("statements are not prepared if the pooler in between cannot keep them", async () => {
    const db = await open(databaseUrl(), { prepared: false });
    const named = sql("SELECT count(*)::int4 AS n FROM pg_prepared_statements WHERE name LIKE 'postgres_%'");
    for (let round = 0; round < 3; round += 1) expect(await db.query(named)).toEqual([{ n: 0 }]);
  });
});

describe("listening", () => {
  test("a database that is closed while its first listener is still connecting closes at once", async () => {
    const db = await open(databaseUrl());
    const listening = db.listen(
      "hurried",
      () => undefined,
      () => undefined,
    );
    const closed = db.close();
    await expect(listening).rejects.toMatchObject({ code: "closed" });
    await closed;
  }, 5_000);

  test("a listener whose backend is terminated listens again and says that messages may be missing", async () => {
    const db = await open(databaseUrl(), { applicationName: "sluice-listener" });
    const heard: string[] = [];
    await db.listen(
      "resilient",
      (payload) => heard.push(payload),
      () => heard.push("lost"),
    );
    const listening = sql(
      "SELECT pid FROM pg_stat_activity WHERE application_name = 'sluice-listener' AND query LIKE 'LISTEN%'",
    );
    const [row] = await db.query(listening);
    await db.query(terminate, [Number(row?.["pid"])]);
    await vi.waitFor(() => expect(heard).toEqual(["lost"]), { timeout: 10_000 });
    await db.query(sql("SELECT pg_notify('resilient', 'again')::text"));
    await vi.waitFor(() => expect(heard).toEqual(["lost", "again"]));
  });

  test("a dead listening connection is found out by its heartbeat", async () => {
    const proxy = await startProxy(databaseUrl());
    const db = await open(proxy.url, { heartbeatMs: 50, deadlineMs: 500, connectTimeoutMs: 500 });
    const heard: string[] = [];
    await db.listen(
      "silent",
      () => {},
      () => heard.push("lost"),
    );
    proxy.freeze();
    await vi.waitFor(() => expect(heard).toEqual(["lost"]), { timeout: 20_000 });
  });
});

describe("a server that restarts without warning", () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());

  test("fails the calls in flight, and everything works again afterwards", async () => {
    const db = await open(server.url, { applicationName: "sluice-restart" });
    const watcher = await open(server.url);
    const heard: string[] = [];
    await db.listen(
      "restart",
      (payload) => heard.push(payload),
      () => heard.push("lost"),
    );
    const doomed = [1, 2, 3].map(() => db.query(sleep).catch((error: unknown) => error));
    await untilAsleep(watcher, "sluice-restart", 3);
    await server.stopImmediate();
    for (const outcome of await Promise.all(doomed))
      expect(outcome).toMatchObject({ code: "store_unavailable" });
    await expect(db.query(one)).rejects.toMatchObject({ code: "store_unavailable" });
    await expect(db.transaction(async (tx) => tx.query(one))).rejects.toMatchObject({
      code: "store_unavailable",
    });
    await server.start();
    expect(await db.query(one)).toEqual([{ n: 1 }]);
    await vi.waitFor(() => expect(heard).toEqual(["lost"]), { timeout: 20_000 });
    await db.query(sql("SELECT pg_notify('restart', 'back')::text"));
    await vi.waitFor(() => expect(heard).toEqual(["lost", "back"]));
  });

  test("closing works while the server is away", async () => {
    const db = await open(server.url);
    await db.listen(
      "away",
      () => {},
      () => {},
    );
    await db.query(one);
    await server.stopImmediate();
    await db.close();
    await server.start();
  });
});

describe("a pool of the user's own", () => {
  test("is used, survives lost connections, and stays open", async () => {
    const pool = new pg.Pool({ connectionString: databaseUrl(), max: 3 });
    const db = await openPostgres(pool);
    expect(await db.query(sql("SELECT $1::int4 AS n, 1.5::float8 AS f"), [7])).toEqual([{ n: 7, f: 1.5 }]);
    const heard: string[] = [];
    await db.listen(
      "borrowed",
      (payload) => heard.push(payload),
      () => heard.push("lost"),
    );
    const all = sql(
      "SELECT count(pg_terminate_backend(pid))::int4 AS n FROM pg_stat_activity WHERE pid = $1::int4",
    );
    const [row] = await db.query(backend);
    const other = await open(databaseUrl());
    await other.query(all, [Number(row?.["pid"])]);
    await vi.waitFor(async () => expect(await db.query(one)).toEqual([{ n: 1 }]));
    await pool.query("SELECT pg_notify('borrowed', 'hello')");
    await vi.waitFor(() => expect(heard).toEqual(["hello"]));
    await db.close();
    expect(pool.listenerCount("error")).toBe(0);
    expect((await pool.query("SELECT 1::int4 AS n")).rows).toEqual([{ n: 1 }]);
    expect(pool.idleCount).toBe(pool.totalCount);
    await pool.end();
  });
});

describe("opening", () => {
  const fails = (source: string, options?: PostgresOptions) =>
    open(source, options).catch((error: unknown) => error);

  test("an unreachable server is named, its password is not", async () => {
    const error = await fails("postgres://somebody:hush-hush@127.0.0.1:1/app");
    expect(error).toMatchObject({
      code: "store_unavailable",
      message: expect.stringContaining("127.0.0.1:1"),
    });
    expect(wholeText(error)).not.toContain("hush-hush");
  });

  test("a server that refuses the login is named with its reason", async () => {
    const url = new URL(databaseUrl());
    url.pathname = "/no_such_database";
    expect(await fails(url.href)).toMatchObject({
      code: "store_unavailable",
      message: expect.stringMatching(/127\.0\.0\.1:\d+.*no_such_database/),
    });
  });

  test("a server that does not answer fails within the connect timeout", async () => {
    const { port } = await listenOn(() => {});
    expect(await fails(`postgres://somebody@127.0.0.1:${port}/app`, { connectTimeoutMs: 100 })).toMatchObject(
      {
        code: "store_unavailable",
      },
    );
  });

  test("a server older than 15 is refused by its version", async () => {
    const { port } = await listenOn((socket) => answerAsVersion(socket, 140_011, "14.11"));
    expect(await fails(`postgres://somebody@127.0.0.1:${port}/app`)).toMatchObject({
      code: "database_too_old",
      message: expect.stringContaining("PostgreSQL 14.11"),
      details: { version: "14.11" },
    });
  });

  test.each([
    "",
    "mysql://a:hush-hush@localhost/x",
    "postgres://a:hush-hush@[::1",
    "postgres://a:hush-hush@h:1x/d",
  ])("%j is no connection string", async (source) => {
    const error = await fails(source);
    expect(error).toMatchObject({ code: "invalid_option" });
    expect(wholeText(error)).not.toContain("hush-hush");
  });

  test.each([{ max: 0 }, { deadlineMs: 0 }, { surprise: 1 }])("%j are no options", async (options) => {
    expect(await fails(databaseUrl(), options as PostgresOptions)).toMatchObject({ code: "invalid_option" });
  });
});

/** Everything an error might show in a log. */
function wholeText(error: unknown): string {
  const { message, stack, cause, details } = error as Error & { details?: unknown };
  const inner = cause === undefined ? "" : wholeText(cause);
  return [message, stack, JSON.stringify(details), JSON.stringify(cause), inner].join("\n");
}

async function listenOn(onSocket: (socket: Socket) => void): Promise<{ port: number }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    onSocket(socket);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port };
}

/** A relay that can stop relaying without closing anything, as a firewall does that forgets its connections. */
async function startProxy(target: string): Promise<{ url: string; freeze(): void }> {
  const url = new URL(target);
  const { port: serverPort, hostname } = url;
  const held: Socket[] = [];
  let frozen = false;
  const { port } = await listenOn((inside) => {
    const outside = connect(Number(serverPort), hostname);
    outside.on("error", () => {});
    inside.on("close", () => outside.destroy());
    outside.on("close", () => inside.destroy());
    inside.pipe(outside).pipe(inside);
    if (!frozen) held.push(inside, outside);
  });
  url.port = String(port);
  url.hostname = "127.0.0.1";
  return {
    url: url.href,
    freeze() {
      frozen = true;
      for (const socket of held) {
        socket.unpipe();
        socket.pause();
      }
    },
  };
}

/** Speaks just enough of the protocol to be asked for its version, and to tell it. */
function answerAsVersion(socket: Socket, number: number, version: string): void {
  const message = (type: string, ...parts: (Buffer | string)[]): Buffer => {
    const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
    const head = Buffer.alloc(5);
    head.write(type);
    head.writeInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  };
  const int16 = (value: number) => Buffer.from([value >> 8, value & 255]);
  const int32 = (value: number) => Buffer.concat([int16(value >> 16), int16(value & 0xffff)]);
  const column = (name: string, oid: number) =>
    Buffer.concat([Buffer.from(`${name}\0`), int32(0), int16(0), int32(oid), int16(-1), int32(-1), int16(0)]);
  const value = (text: string) => Buffer.concat([int32(text.length), Buffer.from(text)]);
  const ready = message("Z", "I");
  const row = [int16(2), value(String(number)), value(version)];
  const columns = [int16(2), column("number", 23), column("version", 25)];
  const answers = [
    Buffer.concat([message("R", int32(0)), ready]),
    Buffer.concat([message("C", "SET\0"), ready]),
    Buffer.concat([
      message("1"),
      message("2"),
      message("T", ...columns),
      message("D", ...row),
      message("C", "SELECT 1\0"),
      ready,
    ]),
  ];
  socket.on("data", () => {
    const answer = answers.shift();
    if (answer !== undefined) socket.write(answer);
  });
}
