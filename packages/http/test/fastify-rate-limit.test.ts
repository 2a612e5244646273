import { createRequire } from "node:module";
import fastifyRateLimit, { type RateLimitPluginOptions } from "@fastify/rate-limit";
import { memory } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { fastifyRateLimitStore } from "@sluice/http/adapters";
import fc from "fast-check";
import fastify from "fastify";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";

/** @fastify/rate-limit itself, with a store of ours under it, and a real server. */
async function app(options: RateLimitPluginOptions) {
  const clock = virtualClock();
  const under = memory({ clock });
  const server = fastify();
  onTestFinished(() => server.close());
  await server.register(fastifyRateLimit, {
    timeWindow: 1000,
    store: fastifyRateLimitStore(under),
    ...options,
  });
  server.get("/", async () => "ok");
  server.get("/own", { config: { rateLimit: { max: 1, timeWindow: 1000 } } }, async () => "own");
  server.get("/free", { config: { rateLimit: false } }, async () => "free");
  const peek = server.createRateLimit();
  server.get("/peek", { config: { rateLimit: false } }, async (request) =>
    peek(request, { increment: false }),
  );
  const url = await server.listen({ port: 0, host: "127.0.0.1" });
  const get = async (path = "/") => {
    const response = await fetch(url + path);
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  const statuses = async (count: number, path = "/") => {
    const all: number[] = [];
    for (let i = 0; i < count; i++) all.push((await get(path)).status);
    return all;
  };
  return { clock, under, get, statuses };
}

describe("@fastify/rate-limit on a store of ours", () => {
  test("admits max, refuses the next, and begins anew", async () => {
    const server = await app({ max: 2 });
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
    server.clock.advance(1_000_000);
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
  });

  test("sends its headers", async () => {
    const server = await app({ max: 1, timeWindow: 30_000 });
    const { headers } = await server.get();
    expect(["limit", "remaining", "reset"].map((name) => headers.get(`x-ratelimit-${name}`))).toEqual([
      "1",
      "0",
      "30",
    ]);
    server.clock.advance(10_000_000);
    const refused = await server.get();
    expect([
      refused.status,
      refused.headers.get("retry-after"),
      refused.headers.get("x-ratelimit-reset"),
    ]).toEqual([429, "20", "20"]);
  });

  test("gives a route a count of its own", async () => {
    const server = await app({ max: 2 });
    expect(await server.statuses(2, "/own")).toEqual([200, 429]);
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
    expect(await server.statuses(3, "/free")).toEqual([200, 200, 200]);
  });

  test("prolongs the window with each request beyond max (continueExceeding)", async () => {
    const server = await app({ max: 2, continueExceeding: true });
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
    for (let i = 0; i < 5; i++) {
      server.clock.advance(900_000);
      const { status, headers } = await server.get();
      expect([status, headers.get("x-ratelimit-reset")]).toEqual([429, "1"]);
    }
    server.clock.advance(1_000_000);
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
  });

  test("bans who goes on beyond max, also across what would have been windows", async () => {
    const server = await app({ max: 1, ban: 2, continueExceeding: true });
    expect(await server.statuses(2)).toEqual([200, 429]);
    server.clock.advance(900_000);
    expect(await server.statuses(2)).toEqual([429, 403]);
    server.clock.advance(900_000);
    expect(await server.statuses(1)).toEqual([403]);
    server.clock.advance(1_000_000);
    expect(await server.statuses(3)).toEqual([200, 429, 429]);
  });

  test("bans within a window without continueExceeding", async () => {
    const server = await app({ max: 1, ban: 1 });
    expect(await server.statuses(4)).toEqual([200, 429, 403, 403]);
  });

  test("doubles the wait with each request beyond max (exponentialBackoff)", async () => {
    const server = await app({ max: 1, exponentialBackoff: true });
    const waits: (string | null)[] = [];
    for (let i = 0; i < 5; i++) waits.push((await server.get()).headers.get("retry-after"));
    expect(waits).toEqual([null, "1", "2", "4", "8"]);
    server.clock.advance(7_999_999);
    expect((await server.get()).headers.get("retry-after")).toBe("16");
    server.clock.advance(16_000_000);
    expect(await server.statuses(1)).toEqual([200]);
  });

  test("looks without counting ({increment: false})", async () => {
    const server = await app({ max: 3 });
    await server.statuses(2);
    for (let i = 0; i < 3; i++)
      expect(JSON.parse((await server.get("/peek")).text)).toMatchObject({ remaining: 1, isExceeded: false });
    const strict = await app({ max: 1, continueExceeding: true });
    await strict.statuses(3);
    expect(JSON.parse((await strict.get("/peek")).text)).toMatchObject({ isExceeded: true, ttl: 1000 });
  });

  test("admits exactly max of many requests at once", async () => {
    for (const modes of [{}, { continueExceeding: true }, { exponentialBackoff: true }]) {
      const server = await app({ max: 10, ...modes });
      const all = await Promise.all(Array.from({ length: 50 }, () => server.get()));
      expect(all.filter(({ status }) => status === 200)).toHaveLength(10);
    }
  });

  test("takes keys that are numbers, and windows longer than any limit has", async () => {
    const server = await app({ max: 2, timeWindow: "285421 years", keyGenerator: () => 42 });
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
    const strict = await app({ max: 1, timeWindow: "285421 years", exponentialBackoff: true });
    expect(await strict.statuses(3)).toEqual([200, 429, 429]);
  });

  test("fails or passes, as it was told, when the store fails", async () => {
    const strict = await app({});
    strict.under.close();
    expect(await strict.statuses(1)).toEqual([500]);
    const lenient = await app({ skipOnError: true });
    lenient.under.close();
    expect(await lenient.statuses(1)).toEqual([200]);
  });
});

/** Their store, which they do not export. */
type TheirStore = new (
  continueExceeding: boolean,
  exponentialBackoff: boolean,
) => {
  incr(
    key: string,
    callback: (error: unknown, result: Reading) => void,
    timeWindow: number,
    max: number,
  ): void;
};
interface Reading {
  current: number;
  ttl: number;
}

describe("its own memory store and ours", () => {
  const TheirStore = createRequire(import.meta.resolve("@fastify/rate-limit"))(
    "./store/LocalStore.js",
  ) as TheirStore;
  afterEach(() => void vi.useRealTimers());

  test.each([[false], [true]])("count alike, with continueExceeding %s", async (continueExceeding) => {
    const gaps = fc.array(fc.constantFrom(0, 0, 1, 300, 999, 1000, 1001), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(gaps, async (steps) => {
        vi.useFakeTimers({ toFake: ["Date"] });
        const clock = virtualClock();
        const theirs = new TheirStore(continueExceeding, false);
        const ours = new (fastifyRateLimitStore(memory({ clock })))({ continueExceeding });
        for (const ms of steps) {
          vi.advanceTimersByTime(ms);
          clock.advance(ms * 1000);
          const count = (store: TheirStore["prototype"] | typeof ours): Promise<Reading> =>
            new Promise((resolve, reject) => {
              store.incr(
                "k",
                (error: unknown, result: Reading | undefined) => {
                  if (error) reject(error as Error);
                  else resolve({ current: result!.current, ttl: result!.ttl });
                },
                1000,
                3,
              );
            });
          expect(await count(ours)).toEqual(await count(theirs as never));
        }
        vi.useRealTimers();
      }),
      { numRuns: 500 },
    );
  });
});
