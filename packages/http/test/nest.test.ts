import "reflect-metadata";
import type { Server } from "node:http";
import { Controller, Get, Module, type Type } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { limit } from "@sluice/core";
import { type NestDoorOptions, RateLimit, RateLimitModule, SkipRateLimit } from "@sluice/http/nest";
import { describe, expect, onTestFinished, test } from "vitest";
import { served, signal } from "./serve.ts";
import { silentStore } from "./stores.ts";

/** What the decorator syntax would do; the compiler of the tests has none. */
function decorate(target: object, name: string, ...decorators: readonly MethodDecorator[]): void {
  const method = Object.getOwnPropertyDescriptor(target, name)!;
  for (const decorator of decorators) decorator(target, name, method);
}

/** A controller with a plain route, one with a limit of its own, and one with none. */
function routes(): Type {
  class Routes {
    root() {
      return "ok";
    }
    login() {
      return "in";
    }
    health() {
      return "well";
    }
  }
  decorate(Routes.prototype, "root", Get("/"));
  decorate(
    Routes.prototype,
    "login",
    Get("/login"),
    RateLimit(limit("login", "1/60s"), { dryRun: false }) as MethodDecorator,
  );
  decorate(Routes.prototype, "health", Get("/health"), SkipRateLimit() as MethodDecorator);
  Controller()(Routes);
  return Routes;
}

async function app(imports: readonly unknown[], controller: Type = routes()) {
  class App {}
  Module({ imports: [...imports] as never[], controllers: [controller] })(App);
  const nest = await NestFactory.create(App, { logger: false });
  onTestFinished(() => nest.close());
  await nest.listen(0, "127.0.0.1");
  const server = await served(nest.getHttpServer() as Server);
  const statuses = async (count: number, path = "/") => {
    const all: number[] = [];
    for (let i = 0; i < count; i++) all.push((await server.get(path)).status);
    return all;
  };
  return { ...server, statuses };
}

describe("NestJS", () => {
  test("admits the limit and refuses the next with headers and a problem", async () => {
    const server = await app([RateLimitModule.forRoot({ limits: limit("per-address", "2/60s") })]);
    const first = await server.get();
    expect([first.status, first.text, first.headers.get("ratelimit")]).toEqual([
      200,
      "ok",
      '"per-address";r=1;t=60',
    ]);
    await server.get();
    const refused = await server.get();
    expect(refused.status).toBe(429);
    expect(refused.headers.get("content-type")).toMatch(/^application\/problem\+json/);
    expect(refused.headers.get("ratelimit")).toMatch(/^"per-address";r=0;t=/);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(50);
    expect(JSON.parse(refused.text)).toMatchObject({ status: 429, "violated-policies": ["per-address"] });
  });

  test("routes have limits of their own, or none", async () => {
    const server = await app([RateLimitModule.forRoot({ limits: limit("per-address", "2/60s") })]);
    expect(await server.statuses(2, "/login")).toEqual([200, 429]);
    expect(await server.statuses(4, "/health")).toEqual([200, 200, 200, 200]);
    expect(await server.statuses(3)).toEqual([200, 200, 429]);
  });

  test("what a handler says wins over its controller", async () => {
    const controller = routes();
    RateLimit(limit("controller", "2/60s"))(controller);
    const server = await app([RateLimitModule.forRoot({ limits: limit("unused", "1/60s") })], controller);
    expect((await server.get()).headers.get("ratelimit")).toMatch(/^"controller"/);
    expect((await server.get("/login")).headers.get("ratelimit")).toMatch(/^"login"/);
    expect((await server.get("/health")).headers.get("ratelimit")).toBeNull();
  });

  test("without limits of the module only marked routes are limited", async () => {
    const server = await app([RateLimitModule.forRoot({})]);
    expect(await server.statuses(3)).toEqual([200, 200, 200]);
    expect(await server.statuses(2, "/login")).toEqual([200, 429]);
  });

  test("takes options that other providers make", async () => {
    class Settings {
      readonly rate = "1/60s";
    }
    class SettingsModule {}
    Module({ providers: [Settings], exports: [Settings] })(SettingsModule);
    const useFactory = async (settings: Settings): Promise<NestDoorOptions> => ({
      limits: limit("made", settings.rate),
    });
    const server = await app([
      RateLimitModule.forRootAsync({ imports: [SettingsModule], inject: [Settings], useFactory }),
    ]);
    expect(await server.statuses(2)).toEqual([200, 429]);
  });

  test("a guard that is not global stands where it is put", async () => {
    const server = await app([RateLimitModule.forRoot({ limits: limit("l", "1/60s"), global: false })]);
    expect(await server.statuses(3)).toEqual([200, 200, 200]);
  });

  test("takes back what a settled answer did not take", async () => {
    const perAddress = limit("per-address", "1/60s", { algorithm: "fixed-window", align: "first-request" });
    const settled = signal();
    const settle = (): number => {
      settled();
      return 0;
    };
    const server = await app([RateLimitModule.forRoot({ limits: perAddress, settle })]);
    for (let i = 0; i < 3; i++) {
      const next = settled.next();
      expect((await server.get()).status).toBe(200);
      await next;
    }
  });

  test("refuses with 503, or fails, as it was told, when the store fails", async () => {
    const perAddress = limit("per-address", "1/60s", { store: silentStore() });
    const closed = await app([
      RateLimitModule.forRoot({ limits: perAddress, storeFailure: "closed", onError: () => {} }),
    ]);
    const refused = await closed.get();
    expect([refused.status, JSON.parse(refused.text).type]).toEqual([
      503,
      "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
    ]);
    const failing = await app([RateLimitModule.forRoot({ limits: perAddress, storeFailure: "error" })]);
    expect(await failing.statuses(1)).toEqual([500]);
  });
});
