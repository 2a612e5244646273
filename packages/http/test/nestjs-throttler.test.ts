import "reflect-metadata";
import type { Server } from "node:http";
import { Controller, Get, Module } from "@nestjs/common";
import { APP_GUARD, NestFactory } from "@nestjs/core";
import {
  SkipThrottle,
  Throttle,
  ThrottlerGuard,
  ThrottlerModule,
  type ThrottlerOptions,
  ThrottlerStorageService,
} from "@nestjs/throttler";
import { type LimitStore, memory } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { nestThrottlerStorage } from "@sluice/http/adapters";
import fc from "fast-check";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { served } from "./serve.ts";

/** What the decorator syntax would do; the compiler of the tests has none. */
function decorate(target: object, name: string, ...decorators: readonly MethodDecorator[]): void {
  const method = Object.getOwnPropertyDescriptor(target, name)!;
  for (const decorator of decorators) decorator(target, name, method);
}

/** An application with their module and guard, and a store of ours under them. */
async function app(throttlers: ThrottlerOptions[], under: LimitStore) {
  class Routes {
    root() {
      return "ok";
    }
    own() {
      return "own";
    }
    free() {
      return "free";
    }
  }
  decorate(Routes.prototype, "root", Get("/"));
  decorate(Routes.prototype, "own", Get("/own"), Throttle({ default: { limit: 1, ttl: 1000 } }));
  decorate(Routes.prototype, "free", Get("/free"), SkipThrottle());
  Controller()(Routes);
  class App {}
  Module({
    imports: [ThrottlerModule.forRoot({ throttlers, storage: nestThrottlerStorage(under) })],
    controllers: [Routes],
    providers: [{ provide: APP_GUARD, useClass: ThrottlerGuard }],
  })(App);
  const nest = await NestFactory.create(App, { logger: false });
  onTestFinished(() => nest.close());
  await nest.listen(0, "127.0.0.1");
  const { get } = await served(nest.getHttpServer() as Server);
  const statuses = async (count: number, path = "/") => {
    const all: number[] = [];
    for (let i = 0; i < count; i++) all.push((await get(path)).status);
    return all;
  };
  return { get, statuses };
}

describe("@nestjs/throttler on a store of ours", () => {
  test("admits its limit, blocks for as long as it says, and begins anew", async () => {
    const clock = virtualClock();
    const server = await app([{ ttl: 1000, limit: 2, blockDuration: 5000 }], memory({ clock }));
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
    clock.advance(4_999_999);
    expect(await server.statuses(1)).toEqual([429]);
    clock.advance(1);
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
  });

  test("gives a whole new budget after a block that is shorter than the window", async () => {
    const clock = virtualClock();
    const server = await app([{ ttl: 60_000, limit: 2, blockDuration: 1000 }], memory({ clock }));
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
    clock.advance(1_000_000);
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
  });

  test("is not blocked for longer by who goes on asking", async () => {
    const clock = virtualClock();
    const server = await app([{ ttl: 1000, limit: 1, blockDuration: 2000 }], memory({ clock }));
    await server.statuses(2);
    for (let i = 0; i < 3; i++) {
      clock.advance(500_000);
      expect(await server.statuses(1)).toEqual([429]);
    }
    clock.advance(500_000);
    expect(await server.statuses(1)).toEqual([200]);
  });

  test("sends its headers", async () => {
    const clock = virtualClock();
    const server = await app([{ ttl: 10_000, limit: 1 }], memory({ clock }));
    const { headers } = await server.get();
    expect(["limit", "remaining", "reset"].map((name) => headers.get(`x-ratelimit-${name}`))).toEqual([
      "1",
      "0",
      "10",
    ]);
    await server.get();
    clock.advance(3_000_000);
    expect((await server.get()).headers.get("retry-after")).toBe("7");
  });

  test("keeps several throttlers and routes apart", async () => {
    const server = await app(
      [
        { name: "default", ttl: 1000, limit: 3 },
        { name: "long", ttl: 60_000, limit: 4 },
      ],
      memory(),
    );
    expect(await server.statuses(2, "/own")).toEqual([200, 429]);
    expect(await server.statuses(4)).toEqual([200, 200, 200, 429]);
    expect(await server.statuses(5, "/free")).toEqual([200, 200, 200, 200, 429]);
  });

  test("admits exactly its limit of many requests at once", async () => {
    const server = await app([{ ttl: 60_000, limit: 5 }], memory());
    const all = await Promise.all(Array.from({ length: 100 }, () => server.get()));
    expect(all.filter(({ status }) => status === 200)).toHaveLength(5);
  });

  test("refuses everything with a limit of 0", async () => {
    const server = await app([{ ttl: 1000, limit: 0 }], memory());
    expect(await server.statuses(2)).toEqual([429, 429]);
  });
});

describe("its own storage and ours", () => {
  afterEach(() => void vi.useRealTimers());

  test("decide alike, whatever happens", async () => {
    const gaps = fc.array(fc.constantFrom(0, 0, 0, 1, 400, 999, 1000, 2500), { maxLength: 30 });
    const rule = fc.record({
      limit: fc.integer({ min: 1, max: 4 }),
      blockDuration: fc.constantFrom(0, 500, 1000, 3000),
    });
    await fc.assert(
      fc.asyncProperty(gaps, rule, async (steps, { limit, blockDuration }) => {
        vi.useFakeTimers({ toFake: ["Date", "setInterval", "clearInterval"] });
        const clock = virtualClock();
        const theirs = new ThrottlerStorageService();
        const ours = nestThrottlerStorage(memory({ clock }));
        for (const ms of steps) {
          vi.advanceTimersByTime(ms);
          clock.advance(ms * 1000);
          const hit = ["k", 1000, limit, blockDuration, "default"] as const;
          const [left, right] = [await theirs.increment(...hit), await ours.increment(...hit)];
          expect(right.isBlocked).toBe(left.isBlocked);
          // While a key is blocked theirs lets the hits before it run out of the number it reports; nobody is shown it.
          if (!left.isBlocked) expect(right.totalHits).toBe(left.totalHits);
          if (left.isBlocked) expect(right.timeToBlockExpire).toBe(left.timeToBlockExpire);
        }
        theirs.onApplicationShutdown();
        vi.useRealTimers();
      }),
      { numRuns: 500 },
    );
  });
});
