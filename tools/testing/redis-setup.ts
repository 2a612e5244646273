/** vitest global set-up of the suites that use Redis: one server for the whole run, however many suites share it. */
import type { TestProject } from "vitest/node";
import { type ProvidedRedis, provideRedis } from "../servers/redis.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** URL of the run's Redis, or why there is none; see `tools/testing/redis.ts`. */
    readonly redis: { readonly url: string | undefined; readonly missing: string | undefined };
  }
}

interface Shared {
  users: number;
  server: Promise<ProvidedRedis>;
}

// vitest loads this module once per suite, each time afresh; what they share has to live outside it.
const slot = Symbol.for("sluice.testing.redis");
const shared = globalThis as { [slot]?: Shared | undefined };

/** Starts the server for the first suite, and gives every suite its URL. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  shared[slot] ??= { users: 0, server: provideRedis() };
  const held = shared[slot];
  held.users++;
  const { url, missing, stop } = await held.server;
  project.provide("redis", { url, missing });
  return async () => {
    if (--held.users > 0) return;
    shared[slot] = undefined;
    await stop();
  };
}
