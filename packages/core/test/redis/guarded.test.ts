/** Limits on a real Redis that is stopped in its tracks, killed, restarted empty, and loses its scripts. */
import { cachedDenials, type Decision, type GuardedStore, guarded, leased, limit } from "@sluice/core";
import { redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type RedisServer, startRedis } from "../../../../tools/servers/redis.ts";
import { requireRedis } from "../../../../tools/testing/redis.ts";

requireRedis();

/** How long a decision may take on a busy machine, beyond the deadline. The deadline alone is measured in virtual time. */
const patienceMs = 1_000;

let server: RedisServer | undefined;
const clients: Redis[] = [];

beforeAll(async () => {
  server = await startRedis().catch(() => undefined);
});
afterAll(() => server?.stop());
afterEach(() => {
  server?.resume();
  for (const client of clients.splice(0)) client.disconnect();
});

function connect(): Redis {
  const client = new Redis(server!.url, { maxRetriesPerRequest: 0, retryStrategy: () => 20 });
  client.on("error", () => {});
  clients.push(client);
  return client;
}

async function timed(work: () => PromiseLike<Decision> | Decision): Promise<Decision & { tookMs: number }> {
  const beganMs = performance.now();
  return { ...(await work()), tookMs: performance.now() - beganMs };
}

/** Asks until the store answers again; resolves to how long that took. */
async function untilNormal(ask: () => PromiseLike<Decision> | Decision): Promise<number> {
  const beganMs = performance.now();
  for (;;) {
    const { mode } = await ask();
    const tookMs = performance.now() - beganMs;
    if (mode === "normal") return tookMs;
    if (tookMs > 20_000) throw new Error("the store did not come back");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const breaker = { coolDownMs: 300 };

function states(store: GuardedStore): string[] {
  const seen: string[] = [];
  for (const name of ["open", "half-open", "closed"] as const) store.breaker.on(name, () => seen.push(name));
  return seen;
}

describe("a Redis that is stopped in its tracks (SIGSTOP)", () => {
  test("every decision comes in time and says that it is local; slow counts as failed; then it is normal again", async () => {
    const store = guarded(redis(connect(), { prefix: "stop" }), { failMode: "local", instances: 2, breaker });
    const seen = states(store);
    const l = limit("l", "100/h", { store });
    expect((await l.tryAcquire()).mode).toBe("normal");
    server!.pause();
    const during: (Decision & { tookMs: number })[] = [];
    for (let i = 0; i < 80; i++) during.push(await timed(() => l.tryAcquire()));
    expect(during.every(({ mode }) => mode === "local")).toBe(true);
    expect(Math.max(...during.map(({ tookMs }) => tookMs))).toBeLessThan(75 + patienceMs);
    // Half the limit for each of two instances, of which one was used before.
    expect(during.filter(({ allowed }) => allowed).length).toBe(49);
    expect(store.breaker.state).toBe("open");
    // While it is open nobody waits for the deadline.
    expect((await timed(() => l.tryAcquire())).tookMs).toBeLessThan(60);

    server!.resume();
    await untilNormal(() => l.for("other").tryAcquire());
    expect([store.breaker.state, seen[0], seen.at(-1)]).toEqual(["closed", "open", "closed"]);
  });

  test("closed: nothing is admitted; open: the ceiling", { timeout: 30_000 }, async () => {
    const store = guarded(redis(connect(), { prefix: "modes" }), { failMode: "closed", breaker });
    const closed = limit("closed", "100/h", { store });
    const open = limit("open", "10/h", { store: store.with({ failMode: "open", ceiling: 3 }) });
    await closed.tryAcquire();
    server!.pause();
    const count = async (one: typeof closed): Promise<string> => {
      const all = await Promise.all(Array.from({ length: 200 }, () => one.tryAcquire()));
      return [all.filter(({ allowed }) => allowed).length, ...new Set(all.map(({ mode }) => mode))].join(" ");
    };
    expect([await count(closed), await count(open)]).toEqual(["0 closed", "30 open"]);
  });
});

describe("a Redis that is killed", () => {
  test("decisions go on, an error is never a denial, and after the restart all is normal without help", {
    timeout: 60_000,
  }, async () => {
    const store = guarded(redis(connect(), { prefix: "kill" }), { breaker });
    const failures: string[] = [];
    store.on("failure", ({ error }) => failures.push((error as { code: string }).code));
    const l = limit("l", "1000/h", { store });
    await l.tryAcquire();
    await server!.kill();
    for (let i = 0; i < 30; i++) {
      const decision = await timed(() => l.tryAcquire());
      expect([decision.allowed, decision.mode]).toEqual([true, "local"]);
      expect(decision.tookMs).toBeLessThan(75 + patienceMs);
    }
    expect(failures.length).toBeGreaterThanOrEqual(5);
    expect(failures.every((code) => code === "store_unavailable" || code === "store_timeout")).toBe(true);
    await expect((async () => l.reset())()).rejects.toMatchObject({ family: "store" });
    await server!.start();
    await untilNormal(() => l.tryAcquire());
    // It came back empty: what was consumed there is forgotten, as the bound for a lost store says.
    expect(await l.available()).toBeGreaterThan(990);
  });

  test("SCRIPT FLUSH is not a failure", async () => {
    const client = connect();
    const store = guarded(redis(client, { prefix: "flush" }), { deadlineMs: 5_000 });
    const failures: unknown[] = [];
    store.on("failure", (failure) => failures.push(failure));
    const l = limit("l", "10/h", { store });
    await l.tryAcquire();
    await client.script("FLUSH");
    expect([(await l.tryAcquire()).remaining, failures]).toEqual([8, []]);
  });
});

describe("leases on a real Redis", () => {
  test("three holders that ask for more than there is never get one too many", {
    timeout: 30_000,
  }, async () => {
    const rate = 20_000;
    const holders = [0, 1, 2].map(() =>
      limit("hot", `${rate}/s`, {
        algorithm: "token-bucket",
        store: guarded(leased(cachedDenials(redis(connect(), { prefix: "lease" })), { guardPart: 0.1 }), {
          failMode: "closed",
          deadlineMs: 10_000,
        }),
      }),
    );
    const nowUs = (): number => Number(process.hrtime.bigint() / 1000n);
    const beganUs = nowUs();
    let admitted = 0;
    const ask = async (l: (typeof holders)[number]): Promise<void> => {
      while (nowUs() - beganUs < 1_500_000) {
        for (let i = 0; i < 50; i++) if ((await l.tryAcquire()).allowed) admitted++;
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await Promise.all(holders.flatMap((l) => [ask(l), ask(l), ask(l)]));
    const tookUs = nowUs() - beganUs;
    const allowance = rate + (rate * tookUs) / 1_000_000;
    expect(admitted).toBeLessThanOrEqual(allowance);
    expect(admitted).toBeGreaterThan(0.7 * allowance);
  });
});
