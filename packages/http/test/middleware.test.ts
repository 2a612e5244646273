/** What holds behind every framework, over real sockets. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { serve as serveHono } from "@hono/node-server";
import { limit, memory } from "@sluice/core";
import type { DoorLimits, DoorOptions } from "@sluice/http";
import { rateLimit as expressDoor } from "@sluice/http/express";
import { rateLimit as fastifyDoor } from "@sluice/http/fastify";
import { rateLimit as honoDoor } from "@sluice/http/hono";
import { rateLimit as nodeDoor } from "@sluice/http/node";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Served, served, signal } from "./serve.ts";
import { silentStore, slowStore } from "./stores.ts";

type Start = (limits: DoorLimits, options?: DoorOptions) => Promise<Served>;

/** Each answers `ok` to a GET of `/`, and 404 to anything else. */
const frameworks: Record<string, Start> = {
  async "node:http"(limits, options) {
    const admit = nodeDoor(limits, options);
    return served(
      createServer(async (request, response) => {
        try {
          if (!(await admit(request, response))) return;
          response.statusCode = request.url === "/" ? 200 : 404;
          response.end("ok");
        } catch {
          response.statusCode = 500;
          response.end();
        }
      }),
    );
  },
  async Express(limits, options) {
    const app = express();
    app.use(expressDoor(limits, options));
    app.get("/", (_request, response) => void response.send("ok"));
    app.use(
      ((_error, _request, response, _next) => void response.status(500).end()) as express.ErrorRequestHandler,
    );
    return served(createServer(app));
  },
  async Fastify(limits, options) {
    const app = fastify();
    await app.register(fastifyDoor, { limits, ...options });
    app.get("/", async () => "ok");
    await app.listen({ port: 0, host: "127.0.0.1" });
    onTestFinished(() => app.close());
    return served(app.server);
  },
  async Hono(limits, options) {
    const app = new Hono();
    app.onError((_error, context) => context.text("", 500));
    app.use(honoDoor(limits, options));
    // A response of its own, which forgets headers that were set before it.
    app.get("/", () => new Response("ok"));
    const server = serveHono({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server;
    if (!server.listening) await once(server, "listening");
    return served(server);
  },
};

async function statuses(server: Served, count: number, path = "/"): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < count; i++) all.push((await server.get(path)).status);
  return all;
}

describe.each(Object.entries(frameworks))("%s", (_name, start) => {
  test("admits the limit and refuses the next with headers and a problem", async () => {
    const server = await start(limit("per-address", "2/60s"));
    const first = await server.get();
    expect([first.status, first.text]).toEqual([200, "ok"]);
    expect(first.headers.get("ratelimit-policy")).toBe('"per-address";q=2;w=60');
    expect(first.headers.get("ratelimit")).toBe('"per-address";r=1;t=60');
    await server.get();
    const refused = await server.get();
    expect(refused.status).toBe(429);
    expect(refused.headers.get("content-type")).toMatch(/^application\/problem\+json/);
    expect(refused.headers.get("cache-control")).toBe("no-store");
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(50);
    expect(refused.headers.get("ratelimit")).toMatch(/^"per-address";r=0;t=\d+$/);
    expect(JSON.parse(refused.text)).toMatchObject({ status: 429, "violated-policies": ["per-address"] });
  });

  test("counts what no route answers, so that a flood of 404s ends", async () => {
    const server = await start(limit("per-address", "3/60s"));
    expect(await statuses(server, 5, "/wp-login.php")).toEqual([404, 404, 404, 429, 429]);
  });

  test("names several limits, of which none is debited when one refuses", async () => {
    const store = memory();
    const wide = limit("wide", "100/h", { store });
    const server = await start([{ limit: wide, key: () => "" }, limit("narrow", "1/60s", { store })]);
    expect((await server.get()).headers.get("ratelimit")).toMatch(/^"wide";r=99;t=\d+, "narrow";r=0;t=60$/);
    const refused = await server.get();
    expect(JSON.parse(refused.text)["violated-policies"]).toEqual(["narrow"]);
    expect(await wide.available()).toBe(99);
  });

  test("admits exactly the limit of many requests at once", async () => {
    const server = await start(limit("per-address", "10/60s"));
    const all = await Promise.all(Array.from({ length: 60 }, () => server.get()));
    expect(all.filter(({ status }) => status === 200)).toHaveLength(10);
    expect(all.filter(({ status }) => status === 429)).toHaveLength(50);
  });

  test("is not fooled by X-Forwarded-For, once, twice or 1 000 times", async () => {
    const server = await start(limit("per-address", "3/60s"), { onError: () => {} });
    const lines = ["X-Forwarded-For", "1.1.1.1", "x-forwarded-for", "2.2.2.2"];
    expect((await server.raw(lines)).status).toBe(200);
    const long = Array.from({ length: 1000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`).join(",");
    expect((await server.raw(["X-Forwarded-For", long])).status).toBe(200);
    expect((await server.raw(["Forwarded", 'for="[::1]'])).status).toBe(200);
    expect((await server.raw(["X-Forwarded-For", "garbage,,,;\t"])).status).toBe(429);
  });

  test("finds clients behind a proxy it trusts, from the right, over several lines", async () => {
    const server = await start(limit("per-client", "1/60s"), { trust: { proxies: ["loopback"] } });
    const from = async (...lines: string[]) =>
      (await server.raw(lines.flatMap((line) => ["X-Forwarded-For", line]))).status;
    expect(await from("198.51.100.1")).toBe(200);
    expect(await from("6.6.6.6", "198.51.100.1")).toBe(429);
    expect(await from("198.51.100.2")).toBe(200);
    expect(await from("2001:db8:0:1::1")).toBe(200);
    expect(await from("2001:db8:0:1::2")).toBe(429);
    expect(await from("::ffff:198.51.100.2")).toBe(429);
    expect(await from("not an address")).toBe(200);
    expect(await from("neither is this")).toBe(429);
  });

  test("hands a failing store to the framework, or lets pass, or refuses with 503", async () => {
    const perAddress = limit("per-address", "1/60s", { store: silentStore() });
    const quiet = { onError: () => {} };
    expect(await statuses(await start(perAddress, quiet), 2)).toEqual([200, 200]);
    const closed = await (await start(perAddress, { ...quiet, storeFailure: "closed" })).get();
    expect([closed.status, closed.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(await statuses(await start(perAddress, { ...quiet, storeFailure: "error" }), 1)).toEqual([500]);
  });

  test("goes on when a client leaves while the store is thinking", async () => {
    const { store, asked, answer } = slowStore();
    const server = await start(limit("per-address", "5/60s", { store }));
    await leaveWhileAsked(server, asked.next());
    answer();
    const next = asked.next();
    const following = server.get();
    await next;
    answer();
    expect((await following).headers.get("ratelimit")).toMatch(/;r=3;/);
  });

  test("takes back what a settled answer did not take: here all but 404s", async () => {
    const perAddress = limit("per-address", "2/60s", { algorithm: "fixed-window", align: "first-request" });
    const settled = signal();
    const settle: DoorOptions["settle"] = ({ status, aborted }) => {
      settled();
      return status === 404 && !aborted ? 1 : 0;
    };
    const server = await start(perAddress, { settle });
    for (let i = 0; i < 4; i++) {
      const next = settled.next();
      expect((await server.get()).status).toBe(200);
      await next;
    }
    const next = settled.next();
    expect((await server.get("/nothing")).status).toBe(404);
    await next;
    expect(perAddress.for("ip:127.0.0.1").available()).toBe(1);
  });

  test("leaves upgrades to whoever takes them", async () => {
    const perAddress = limit("per-address", "5/60s");
    const server = await start(perAddress);
    server.server.on("upgrade", (_request, socket) => {
      socket.end("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    });
    const { status, headers } = await upgrade(server);
    expect(status).toBe(101);
    expect(headers).not.toMatch(/ratelimit/i);
    expect((await server.get()).headers.get("ratelimit")).toMatch(/;r=4;/);
  });

  test("counts a HEAD and sends no body with its refusal", async () => {
    const server = await start(limit("per-address", "1/60s"));
    await fetch(server.url, { method: "HEAD" });
    const refused = await fetch(server.url, { method: "HEAD" });
    expect([refused.status, await refused.text()]).toEqual([429, ""]);
  });
});

/** Sends a request and breaks off as soon as the store was asked; resolves when the server has noticed. */
async function leaveWhileAsked(server: Served, question: Promise<void>): Promise<void> {
  const connections: Socket[] = [];
  server.server.on("connection", (connection: Socket) => void connections.push(connection));
  const socket = connect(server.port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await question;
  const noticed = once(connections[0]!, "close");
  socket.destroy();
  await noticed;
}

/** An upgrade as a client makes it. */
async function upgrade(server: Served): Promise<{ status: number; headers: string }> {
  const socket = connect(server.port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  const [data] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return { status: Number(data.toString().slice(9, 12)), headers: data.toString() };
}

describe("a client that leaves while the store is thinking", () => {
  /** Each serves `/` and tells of every call of its handler. */
  const handling: Record<string, (limits: DoorLimits, handled: () => void) => Promise<Served>> = {
    async "node:http"(limits, handled) {
      const admit = nodeDoor(limits);
      return served(
        createServer(async (request, response) => {
          if (await admit(request, response)) response.end(handled());
        }),
      );
    },
    async Express(limits, handled) {
      const app = express();
      app.get("/", expressDoor(limits), (_request, response) => void response.end(handled()));
      return served(createServer(app));
    },
    async Fastify(limits, handled) {
      const app = fastify();
      await app.register(fastifyDoor, { limits });
      app.get("/", async () => handled() ?? "ok");
      await app.listen({ port: 0, host: "127.0.0.1" });
      onTestFinished(() => app.close());
      return served(app.server);
    },
  };

  test.each(Object.entries(handling))("costs no handler any work (%s)", async (_name, start) => {
    const { store, asked, answer } = slowStore();
    let handled = 0;
    const server = await start(limit("per-address", "5/60s", { store }), () => void handled++);
    await leaveWhileAsked(server, asked.next());
    answer();
    const next = asked.next();
    const following = server.get();
    await next;
    answer();
    expect((await following).status).toBe(200);
    expect(handled).toBe(1);
  });
});

describe("several doors on one way", () => {
  test.each(["express", "hono"])("add their headers to each other's (%s)", async (framework) => {
    const outer = limit("outer", "10/60s");
    const inner = limit("inner", "1/60s");
    let server: Served;
    if (framework === "express") {
      const app = express();
      app.use(expressDoor(outer));
      app.get("/", expressDoor(inner), (_request, response) => void response.send("ok"));
      server = await served(createServer(app));
    } else {
      const app = new Hono();
      app.use(honoDoor(outer));
      app.get("/", honoDoor(inner), (context) => context.text("ok"));
      server = await served(serveHono({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server);
    }
    const names = (field: string | null) =>
      [...field!.matchAll(/"(\w+)"/g)].map(([, name]) => name).toSorted();
    const first = await server.get();
    expect(names(first.headers.get("ratelimit"))).toEqual(["inner", "outer"]);
    expect(names(first.headers.get("ratelimit-policy"))).toEqual(["inner", "outer"]);
    const refused = await server.get();
    expect(refused.status).toBe(429);
    expect(names(refused.headers.get("ratelimit"))).toEqual(["inner", "outer"]);
  });
});

describe("Fastify", () => {
  test("routes have limits of their own, or none", async () => {
    const app = fastify();
    await app.register(fastifyDoor, { limits: limit("all", "5/60s") });
    app.get("/", async () => "ok");
    app.get("/health", { config: { limits: false } }, async () => "ok");
    app.get("/login", { config: { limits: limit("login", "1/60s") } }, async () => "ok");
    app.get(
      "/search",
      { config: { limits: { limits: limit("search", "10/60s"), cost: 4 } } },
      async () => "ok",
    );
    await app.listen({ port: 0, host: "127.0.0.1" });
    onTestFinished(() => app.close());
    const server = await served(app.server);
    expect((await server.get("/health")).headers.get("ratelimit")).toBeNull();
    expect(await statuses(server, 2, "/login")).toEqual([200, 429]);
    expect((await server.get("/search")).headers.get("ratelimit")).toMatch(/^"search";r=6;/);
    expect((await server.get("/")).headers.get("ratelimit")).toMatch(/^"all";r=4;/);
  });

  test("a mistake in a route is found when it is declared", async () => {
    const app = fastify();
    onTestFinished(() => app.close());
    await app.register(fastifyDoor, {});
    expect(() => app.get("/", { config: { limits: [] } }, async () => "ok")).toThrow(/at least one limit/);
  });

  test("preHandler decides behind authentication", async () => {
    const app = fastify();
    const key = ({ native }: { native: unknown }) => (native as { user: string }).user;
    app.addHook("onRequest", async (request) => {
      (request as unknown as { user: string }).user = `user:${request.headers.authorization}`;
    });
    await app.register(fastifyDoor, { limits: limit("per-user", "1/60s"), hook: "preHandler", key });
    app.get("/", async () => "ok");
    await app.listen({ port: 0, host: "127.0.0.1" });
    onTestFinished(() => app.close());
    const server = await served(app.server);
    const as = async (authorization: string) => (await server.get("/", { authorization })).status;
    expect([await as("a"), await as("b"), await as("a")]).toEqual([200, 200, 429]);
  });
});
