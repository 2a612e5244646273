import { type MemoryStore, memory } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { expressRateLimitStore } from "@sluice/http/adapters";
import express from "express";
import { type Options, rateLimit, type Store, MemoryStore as TheirStore } from "express-rate-limit";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { serve, signal } from "./serve.ts";

/** express-rate-limit itself, with a store of ours under it. */
async function app(options: Partial<Options>, over: Partial<Store> = {}) {
  const clock = virtualClock();
  const under = memory({ clock });
  const store: Store = { ...expressRateLimitStore(under), ...over };
  const limiter = rateLimit({
    windowMs: 60_000,
    standardHeaders: "draft-8",
    store,
    logger: quiet,
    ...options,
  });
  const handled = express();
  handled.use(limiter);
  handled.get("/fails", (_request, response) => void response.status(500).send("no"));
  handled.get("/", (_request, response) => void response.send("ok"));
  return { ...(await serve(handled)), clock, under, store, limiter };
}

const quiet = { error: () => {}, warn: () => {} };

async function statuses(
  server: { get(path?: string): Promise<{ status: number }> },
  count: number,
  path = "/",
) {
  const all: number[] = [];
  for (let i = 0; i < count; i++) all.push((await server.get(path)).status);
  return all;
}

describe("express-rate-limit on a store of ours", () => {
  test("admits its limit, refuses the next, and begins anew when the window is over", async () => {
    const server = await app({ limit: 3 });
    expect(await statuses(server, 5)).toEqual([200, 200, 200, 429, 429]);
    server.clock.advance(59_999_999);
    expect(await statuses(server, 1)).toEqual([429]);
    server.clock.advance(1);
    expect(await statuses(server, 4)).toEqual([200, 200, 200, 429]);
  });

  test("says what remains and when it resets", async () => {
    const server = await app({ limit: 2 });
    const { headers } = await server.get();
    expect(headers.get("x-ratelimit-limit")).toBe("2");
    expect(headers.get("x-ratelimit-remaining")).toBe("1");
    expect(headers.get("ratelimit")).toMatch(/^"2-in-1min"; r=1; t=60/);
    server.clock.advance(45_000_000);
    const second = await server.get();
    expect(second.headers.get("ratelimit")).toMatch(/; r=0; t=15/);
    const refused = await server.get();
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "15"]);
  });

  test("counts what it refuses, as its own store does", async () => {
    const server = await app({ limit: 1 });
    await statuses(server, 4);
    const [key] = ["127.0.0.1"];
    expect((await server.limiter.getKey(key!))?.totalHits).toBe(4);
  });

  test("takes successful requests back (skipSuccessfulRequests)", async () => {
    const taken = signal();
    const inner = expressRateLimitStore(memory());
    const server = await app(
      { limit: 2, skipSuccessfulRequests: true },
      { ...inner, decrement: (key) => inner.decrement(key).then(taken) },
    );
    for (let i = 0; i < 5; i++) {
      const decremented = taken.next();
      expect((await server.get()).status).toBe(200);
      await decremented;
    }
    expect(await statuses(server, 3, "/fails")).toEqual([500, 500, 429]);
  });

  test("takes failed requests back (skipFailedRequests)", async () => {
    const taken = signal();
    const inner = expressRateLimitStore(memory());
    const server = await app(
      { limit: 1, skipFailedRequests: true },
      { ...inner, decrement: (key) => inner.decrement(key).then(taken) },
    );
    const decremented = taken.next();
    expect((await server.get("/fails")).status).toBe(500);
    await decremented;
    expect(await statuses(server, 2)).toEqual([200, 429]);
  });

  test("takes nothing back once the window has rolled", async () => {
    const server = await app({ limit: 2 });
    await server.store.increment("k");
    server.clock.advance(60_000_000);
    await server.store.decrement("k");
    await server.store.decrement("never seen");
    expect((await server.store.increment("k")).totalHits).toBe(1);
    expect((await server.store.increment("never seen")).totalHits).toBe(1);
  });

  test("forgets a key (resetKey), and only that one", async () => {
    const server = await app({ limit: 1, keyGenerator: (request) => String(request.query["u"]) });
    expect(await statuses(server, 2, "/?u=a")).toEqual([200, 429]);
    expect(await statuses(server, 2, "/?u=b")).toEqual([200, 429]);
    await server.limiter.resetKey("a");
    expect(await statuses(server, 1, "/?u=a")).toEqual([200]);
    expect(await statuses(server, 1, "/?u=b")).toEqual([429]);
  });

  test("admits exactly its limit of many requests at once", async () => {
    const server = await app({ limit: 10 });
    const all = await Promise.all(Array.from({ length: 50 }, () => server.get()));
    expect(all.filter(({ status }) => status === 200)).toHaveLength(10);
  });

  test("fails or passes, as it was told, when the store fails", async () => {
    const strict = await app({});
    strict.under.close();
    expect((await strict.get()).status).toBe(500);
    const lenient = await app({ passOnStoreError: true });
    lenient.under.close();
    expect((await lenient.get()).status).toBe(200);
  });

  test("takes keys of any length and content", async () => {
    const server = await app({
      limit: 1,
      keyGenerator: (request) => `\n${request.query["u"]}`.padEnd(5000, "x"),
    });
    expect(await statuses(server, 2, "/?u=a")).toEqual([200, 429]);
    expect(await statuses(server, 1, "/?u=b")).toEqual([200]);
  });

  test("keeps two middlewares apart by their prefix", async () => {
    const under: MemoryStore = memory();
    const both = express();
    const one = rateLimit({
      limit: 1,
      store: expressRateLimitStore(under, { prefix: "one" }),
      logger: quiet,
    });
    const two = rateLimit({
      limit: 2,
      store: expressRateLimitStore(under, { prefix: "two" }),
      logger: quiet,
    });
    both.get("/one", one, (_request, response) => void response.send());
    both.get("/two", two, (_request, response) => void response.send());
    const server = await serve(both);
    expect(await statuses(server, 2, "/one")).toEqual([200, 429]);
    expect(await statuses(server, 3, "/two")).toEqual([200, 200, 429]);
  });
});

describe("its own memory store and ours", () => {
  afterEach(() => void vi.useRealTimers());

  test("count alike, whatever happens", async () => {
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ kind: fc.constant("increment" as const), key: fc.constantFrom("a", "b") }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant("decrement" as const), key: fc.constantFrom("a", "b") }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("resetKey" as const), key: fc.constantFrom("a", "b") }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 700 }) }),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        vi.useFakeTimers({ toFake: ["Date", "setInterval", "clearInterval"] });
        const clock = virtualClock(Date.now() * 1000);
        const theirs = new TheirStore();
        theirs.init({ windowMs: 1000 } as Options);
        const ours = expressRateLimitStore(memory({ clock }));
        ours.init({ windowMs: 1000 });
        for (const each of steps) {
          if (each.kind === "wait") {
            vi.advanceTimersByTime(each.ms);
            clock.advance(each.ms * 1000);
          } else if (each.kind === "increment") {
            const [left, right] = [await theirs.increment(each.key), await ours.increment(each.key)];
            expect(right.totalHits).toBe(left.totalHits);
            expect(right.resetTime!.getTime()).toBe(left.resetTime!.getTime());
          } else if (each.kind === "resetKey") {
            await theirs.resetKey(each.key);
            await ours.resetKey(each.key);
          } else if (isLive(await theirs.get(each.key))) {
            // Theirs opens a window for a key it does not know when something is taken back; ours leaves it alone.
            await theirs.decrement(each.key);
            await ours.decrement(each.key);
            if ((await ours.get(each.key)) === undefined) await theirs.resetKey(each.key);
          }
        }
        theirs.shutdown();
        vi.useRealTimers();
      }),
      { numRuns: 300 },
    );
  });

  function isLive(info: { totalHits: number; resetTime: Date | undefined } | undefined): boolean {
    return info !== undefined && info.totalHits > 0 && info.resetTime!.getTime() > Date.now();
  }
});
