import { describe, expect, test } from "vitest";
import { isSluiceError } from "./base/errors.ts";
import { type LimitOptions, limit } from "./declare-limit.ts";
import { RateLimitExceeded } from "./limit/decision.ts";
import { memory } from "./stores/memory/memory-store.ts";
import { virtualClock } from "./testing/virtual-clock.ts";

const second = 1_000_000;
const startMs = 1_767_225_600_000;

const codeOf = async (work: () => unknown): Promise<string> => {
  try {
    await work();
    return "none";
  } catch (error) {
    return isSluiceError(error) ? error.code : String(error);
  }
};

describe("a limit", () => {
  test("admits up to its capacity, then denies and says when", async () => {
    const clock = virtualClock();
    const github = limit("github", "2/10s", { clock });
    expect(await github.tryAcquire()).toEqual({
      allowed: true,
      never: false,
      remaining: 1,
      retryAfterMs: 0,
      resetAt: startMs + 10_000,
      limit: "github",
      key: "",
      cost: 1,
      violated: [],
      mode: "normal",
    });
    clock.advance(3.5 * second);
    await github.tryAcquire();
    expect(await github.tryAcquire()).toMatchObject({
      allowed: false,
      remaining: 0,
      retryAfterMs: 6_500,
      resetAt: startMs + 13_500,
      violated: ["github"],
    });
    clock.advance(6.5 * second);
    expect((await github.tryAcquire()).allowed).toBe(true);
  });

  test("means what the rate says: by default no window of a period holds more than the limit", async () => {
    const clock = virtualClock();
    const strict = limit("strict", "5/s", { clock });
    expect([strict.algorithm, strict.capacity, strict.rate.text]).toEqual(["sliding-window", 5, "5/s"]);
    let admitted = 0;
    for (let i = 0; i < 100; i++) {
      if ((await strict.tryAcquire()).allowed) admitted++;
      clock.advance(9_999);
    }
    expect(admitted).toBe(5);
  });

  test("is a token bucket when a burst is given", () => {
    const paced = limit("paced", "5/s", { burst: 1 });
    expect([paced.algorithm, paced.capacity]).toEqual(["token-bucket", 1]);
    const bucket = limit("bucket", "5/s", { algorithm: "token-bucket" });
    expect(bucket.capacity).toBe(5);
  });

  test("denies a cost above the capacity with never, and consumes nothing", async () => {
    const small = limit("small", "3/s", { clock: virtualClock() });
    expect(await small.tryAcquire(4)).toMatchObject({ allowed: false, never: true, retryAfterMs: Infinity });
    expect(await small.available()).toBe(3);
  });

  test("peeks without consuming, and resets", async () => {
    const small = limit("small", "3/s", { clock: virtualClock() });
    await small.tryAcquire(2);
    expect(await small.peek(2)).toMatchObject({ allowed: false, remaining: 1, retryAfterMs: 1_000 });
    expect(await small.peek()).toMatchObject({ allowed: true, remaining: 1, retryAfterMs: 0 });
    await small.reset();
    expect(await small.available()).toBe(3);
  });

  test("keeps a budget for each key, apart from its own", async () => {
    const perTenant = limit("per-tenant", "1/s", { clock: virtualClock() });
    const acme = perTenant.for("acme");
    expect(await acme.tryAcquire()).toMatchObject({ allowed: true, key: "acme" });
    expect((await perTenant.check("acme")).allowed).toBe(false);
    expect((await perTenant.check("globex")).allowed).toBe(true);
    expect((await perTenant.tryAcquire()).allowed).toBe(true);
    await perTenant.for("acme").reset();
    expect((await acme.tryAcquire()).allowed).toBe(true);
  });

  test("shares its budget with the limit of the same name and rule in one store", async () => {
    const store = memory({ clock: virtualClock() });
    const first = limit("shared", "1/s", { store });
    const second = limit("shared", "1/s", { store });
    await first.tryAcquire();
    expect((await second.tryAcquire()).allowed).toBe(false);
  });

  test("a denial can be made an error by those who want one", async () => {
    const small = limit("small", "1/s", { clock: virtualClock() });
    await small.check("acme");
    const error = new RateLimitExceeded(await small.check("acme"));
    expect(isSluiceError(error, "rate_limited")).toBe(true);
    expect([error.name, error.message]).toEqual([
      "RateLimitExceeded",
      'limit "small" refused cost 1 for "acme": retry after 1000 ms',
    ]);
    expect(error.decision.retryAfterMs).toBe(1_000);
  });

  test("takes no more calls once closed, and leaves a store that was handed in open", async () => {
    const store = memory();
    const closing = limit("closing", "1/s", { store });
    await closing.close();
    await closing.close();
    const attempts = [
      () => closing.tryAcquire(),
      () => closing.acquire(),
      () => closing.peek(),
      () => closing.reset(),
    ];
    expect(await Promise.all(attempts.map(codeOf))).toEqual(attempts.map(() => "closed"));
    expect((await limit("other", "1/s", { store }).tryAcquire()).allowed).toBe(true);
  });
});

describe("the options of a limit", () => {
  test.each<[unknown, string]>([
    [{ burst: 0 }, "invalid_option"],
    [{ burst: 1.5 }, "invalid_option"],
    [{ burst: 5, algorithm: "sliding-window" }, "invalid_option"],
    [{ align: "calendar" }, "invalid_option"],
    [{ algorithm: "gcra" }, "invalid_option"],
    [{ algorith: "token-bucket" }, "invalid_option"],
    [{ clock: Date }, "invalid_option"],
    [{ store: {} }, "invalid_option"],
    [{ store: memory(), maxKeys: 5 }, "invalid_option"],
    [{ maxKeys: 0 }, "invalid_option"],
    [{ maxWaiters: -1 }, "invalid_option"],
    [null, "invalid_option"],
    [{ algorithm: "fixed-window", align: "first-request" }, "none"],
    [{ maxKeys: 1, maxWaiters: 0 }, "none"],
  ])("%j: %s", async (options, code) => {
    expect(await codeOf(() => limit("l", "5/s", options as LimitOptions))).toBe(code);
  });

  test("a wrong option says whose it is", () => {
    expect(() => limit("github", "5/0s")).toThrow(
      'limit "github": rate: expected a period above 0, got "5/0s"',
    );
    expect(() => limit("github", "5/s", { burst: 0 })).toThrow('limit "github": option burst: expected');
    expect(() => limit("github", "1/3650d", { burst: 1000 })).toThrow(
      'limit "github": token bucket: option burst: 1000 at',
    );
  });

  test.each([[""], ["x".repeat(201)], [5], [null], ["a\0b"]])("refuses %j as a name", async (name) => {
    expect(await codeOf(() => limit(name as string, "5/s"))).toBe("invalid_option");
  });
});
