import { isSluiceError, type LimitStore, limit, memory } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import {
  byAddress,
  byHeader,
  type Denial,
  Door,
  type DoorLimits,
  type DoorOptions,
  type DoorRequest,
  type Outcome,
  shared,
} from "@sluice/http";
import { describe, expect, onTestFinished, test } from "vitest";
import { silentStore } from "./stores.ts";

function request(
  given: { address?: string; headers?: Record<string, string>; url?: string; method?: string } = {},
) {
  const { address = "203.0.113.9", headers = {}, url = "/", method = "GET" } = given;
  return {
    method,
    url,
    remoteAddress: address,
    native: {},
    header: (name) => headers[name],
  } satisfies DoorRequest;
}

function headersOf({ headers, refusal }: Outcome): Record<string, string> {
  return Object.fromEntries([...headers, ...(refusal?.headers ?? [])]);
}

describe("a door with one limit", () => {
  test("lets requests pass with headers, and refuses with a problem", async () => {
    const clock = virtualClock();
    const door = new Door(limit("per-address", "2/60s", { clock }), { clock });
    expect(headersOf(await door.check(request()))).toEqual({
      "RateLimit-Policy": '"per-address";q=2;w=60',
      RateLimit: '"per-address";r=1;t=60',
    });
    clock.advance(30_500_000);
    await door.check(request());
    const refused = await door.check(request());
    expect(refused.refusal).toMatchObject({ status: 429 });
    expect(JSON.parse(refused.refusal!.body)).toEqual({
      type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
      title: "Quota exceeded",
      status: 429,
      "violated-policies": ["per-address"],
    });
    expect(headersOf(refused)).toEqual({
      "RateLimit-Policy": '"per-address";q=2;w=60',
      RateLimit: '"per-address";r=0;t=30',
      "Retry-After": "30",
      "Cache-Control": "no-store",
      "Content-Type": "application/problem+json",
    });
    clock.advance(29_500_000);
    expect((await door.check(request())).refusal).toBeUndefined();
  });

  test("keeps addresses apart", async () => {
    const door = new Door(limit("per-address", "1/h"));
    expect((await door.check(request({ address: "192.0.2.1" }))).refusal).toBeUndefined();
    expect((await door.check(request({ address: "192.0.2.2" }))).refusal).toBeUndefined();
    expect((await door.check(request({ address: "::ffff:192.0.2.1" }))).refusal).toBeDefined();
  });

  test("counts a request once, however often it is shown", async () => {
    const door = new Door(limit("per-address", "5/h"));
    const same = request();
    for (let i = 0; i < 4; i++) await door.check(same);
    expect(headersOf(await door.check(request()))["RateLimit"]).toMatch(/;r=3;/);
  });

  test("charges by route, and nothing for what costs nothing", async () => {
    const cost = ({ url }: DoorRequest): number => (url === "/free" ? 0 : url === "/search" ? 5 : 1);
    const door = new Door(limit("per-address", "7/h"), { cost });
    expect(headersOf(await door.check(request({ url: "/search" })))["RateLimit"]).toMatch(/;r=2;/);
    expect((await door.check(request({ url: "/free" }))).headers).toEqual([]);
    expect((await door.check(request({ url: "/search" }))).refusal).toBeDefined();
    expect((await door.check(request())).refusal).toBeUndefined();
  });

  test("tells nobody to come again when the cost is above the capacity", async () => {
    const door = new Door(limit("per-address", "2/h"), { cost: 3 });
    const refused = await door.check(request());
    expect(refused.refusal?.status).toBe(429);
    expect(headersOf(refused)["Retry-After"]).toBeUndefined();
  });

  test("skips what it is told to", async () => {
    const door = new Door(limit("per-address", "1/h"), { skip: async ({ url }) => url === "/health" });
    for (let i = 0; i < 3; i++)
      expect(await door.check(request({ url: "/health" }))).toMatchObject({ decisions: [] });
    expect((await door.check(request())).decisions).toHaveLength(1);
  });

  test("hands on what a resolver or a cost throws, and what a cost should not be", async () => {
    const perAddress = limit("per-address", "1/h");
    const boom = (): never => {
      throw new RangeError("boom");
    };
    await expect(new Door(perAddress, { key: boom }).check(request())).rejects.toThrow("boom");
    await expect(new Door(perAddress, { cost: boom }).check(request())).rejects.toThrow("boom");
    await expect(new Door(perAddress, { cost: () => 1.5 }).check(request())).rejects.toMatchObject({
      code: "invalid_cost",
    });
  });

  test("believes the proxies it is told to, for every key by address", async () => {
    const door = new Door(limit("per-address", "1/h"), { trust: { proxies: ["10.0.0.0/8"] } });
    const from = (client: string) => request({ address: "10.0.0.1", headers: { "x-forwarded-for": client } });
    expect((await door.check(from("198.51.100.1"))).refusal).toBeUndefined();
    expect((await door.check(from("9.9.9.9, 198.51.100.1"))).refusal).toBeDefined();
    expect((await door.check(from("198.51.100.2"))).refusal).toBeUndefined();
  });

  test("warns once when a forwarding header comes and nobody is trusted", async () => {
    const warnings: Error[] = [];
    const listener = (warning: Error): void => void warnings.push(warning);
    process.on("warning", listener);
    onTestFinished(() => void process.off("warning", listener));
    const door = new Door(limit("per-address", "9/h"));
    for (let i = 0; i < 3; i++) await door.check(request({ headers: { "x-forwarded-for": "192.0.2.1" } }));
    await new Promise((resolve) => setImmediate(resolve));
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringContaining("give the option trust"),
    ]);
  });
});

describe("a door with several limits", () => {
  const store = memory();
  const rules: DoorLimits = [
    { limit: limit("burst", "2/s", { store }) },
    { limit: limit("daily", "3/d", { store }), key: shared },
  ];

  test("names every limit in its headers, and the one that refused in the problem", async () => {
    const door = new Door(rules);
    const first = await door.check(request({ address: "192.0.2.1" }));
    expect(headersOf(first)["RateLimit-Policy"]).toBe('"burst";q=2;w=1, "daily";q=3;w=86400');
    expect(headersOf(first)["RateLimit"]).toMatch(/^"burst";r=1;t=1, "daily";r=2;t=\d+$/);
    await door.check(request({ address: "192.0.2.1" }));
    const refused = await door.check(request({ address: "192.0.2.1" }));
    expect(refused.refusal?.problem["violated-policies"]).toEqual(["burst"]);
    expect(headersOf(refused)["Retry-After"]).toBe("1");
  });

  test("debits none when one refuses", async () => {
    const under = memory();
    const wide = limit("wide", "100/h", { store: under });
    const door = new Door([{ limit: wide, key: shared }, limit("narrow", "1/h", { store: under })]);
    for (let i = 0; i < 5; i++) await door.check(request());
    expect(await wide.available()).toBe(99);
  });

  test("asks only those that concern the request", async () => {
    const under = memory();
    const door = new Door([
      limit("per-network-64", "100/h", { store: under }),
      {
        limit: limit("per-network-48", "2/h", { store: under }),
        key: byAddress({ ipv6Prefix: 48, only: "ipv6" }),
      },
      { limit: limit("writes", "1/h", { store: under }), skip: ({ method }) => method === "GET" },
    ]);
    const names = async (given: Parameters<typeof request>[0]) =>
      (await door.check(request(given))).decisions.map((decision) => decision.limit);
    expect(await names({})).toEqual(["per-network-64"]);
    expect(await names({ method: "POST" })).toEqual(["per-network-64", "writes"]);
    expect(await names({ address: "2001:db8:1:1::1" })).toEqual(["per-network-64", "per-network-48"]);
    await names({ address: "2001:db8:1:2::1" });
    const rotated = await door.check(request({ address: "2001:db8:1:3::1" }));
    expect(rotated.refusal?.problem["violated-policies"]).toEqual(["per-network-48"]);
  });

  test("keeps what is hidden to itself, and still refuses", async () => {
    const under = memory();
    const door = new Door([
      limit("shown", "100/h", { store: under }),
      { limit: limit("secret", "1/h", { store: under }), hidden: true },
    ]);
    await door.check(request());
    const refused = await door.check(request());
    expect(refused.refusal?.status).toBe(429);
    expect(headersOf(refused)["Retry-After"]).toBeDefined();
    expect(JSON.stringify([headersOf(refused), refused.refusal!.body])).not.toContain("secret");
  });
});

describe("settling", () => {
  const failuresOnly: DoorOptions["settle"] = ({ status }) => (status >= 400 ? 1 : 0);

  test("corrects a debit to what the answer says it took, once", async () => {
    const perAddress = limit("per-address", "3/h", { algorithm: "fixed-window" });
    const key = perAddress.for("ip:203.0.113.9");
    const errors: unknown[] = [];
    const door = new Door(perAddress, { settle: failuresOnly, onError: (error) => void errors.push(error) });
    const good = await door.check(request());
    expect(key.available()).toBe(2);
    await good.settle!({ status: 200, aborted: false });
    await good.settle!({ status: 200, aborted: false });
    expect(key.available()).toBe(3);
    const bad = await door.check(request());
    await bad.settle!({ status: 401, aborted: false });
    expect([key.available(), errors]).toEqual([2, []]);
  });

  test("corrects each of several limits by itself, up as well as down, and those in dry run too", async () => {
    const store = memory();
    const [requests, bytes, trial] = ["requests", "bytes", "trial"].map((name) =>
      limit(name, "100/h", { store, algorithm: "fixed-window" }),
    );
    const settle = ({ status }: { status: number }): number => status;
    const door = new Door([
      { limit: requests!, key: shared },
      { limit: bytes!, key: shared, settle },
      { limit: trial!, key: shared, settle: () => 0, dryRun: true },
    ]);
    await (await door.check(request())).settle!({ status: 50, aborted: false });
    expect([requests, bytes, trial].map((each) => each!.available())).toEqual([99, 50, 100]);
  });

  test("has nothing to correct when nothing was debited", async () => {
    const door = new Door(limit("per-address", "1/h"), { settle: failuresOnly });
    await door.check(request());
    const refused = await door.check(request());
    expect([refused.refusal?.status, refused.settle]).toEqual([429, undefined]);
    expect((await new Door(limit("l", "1/h")).check(request())).settle).toBeUndefined();
  });

  test("tells of what goes wrong, and disturbs nobody", async () => {
    const errors: unknown[] = [];
    const onError = (error: unknown): void => void errors.push(error);
    const door = new Door(limit("per-address", "5/h"), { settle: () => 0.5, onError });
    await (await door.check(request())).settle!({ status: 200, aborted: false });
    expect(errors).toMatchObject([{ code: "invalid_cost" }]);
  });
});

describe("a dry run", () => {
  test("counts and tells, and refuses nobody", async () => {
    const denials: Denial[] = [];
    const door = new Door(limit("trial", "1/h"), {
      dryRun: true,
      onDenied: (denial) => void denials.push(denial),
    });
    for (let i = 0; i < 3; i++)
      expect(await door.check(request())).toMatchObject({ headers: [], refusal: undefined });
    expect(denials).toHaveLength(2);
    expect(denials[0]).toMatchObject({
      dryRun: true,
      problem: undefined,
      decisions: [{ limit: "trial", allowed: false }],
    });
  });

  test("of one limit holds up no other, nor does its failure", async () => {
    const errors: unknown[] = [];
    const door = new Door(
      [
        { limit: limit("trial", "1/h", { store: silentStore() }), dryRun: true },
        { limit: limit("trial 2", "1/h"), dryRun: true },
        limit("real", "2/h"),
      ],
      { onError: (error) => void errors.push(error), storeFailure: "closed" },
    );
    const outcomes = [await door.check(request()), await door.check(request()), await door.check(request())];
    expect(outcomes.map(({ refusal }) => refusal?.status)).toEqual([undefined, undefined, 429]);
    expect(headersOf(outcomes[0]!)["RateLimit-Policy"]).toBe('"real";q=2;w=3600');
    expect(errors).toHaveLength(3);
  });
});

describe("when the store cannot answer", () => {
  const broken = (options: DoorOptions) =>
    new Door(limit("per-address", "1/h", { store: silentStore() }), options);

  test("requests pass by default, and somebody is told", async () => {
    const errors: unknown[] = [];
    const outcome = await broken({ onError: (error) => void errors.push(error) }).check(request());
    expect(outcome).toMatchObject({ headers: [], refusal: undefined, decisions: [] });
    expect(isSluiceError(errors[0], "store_unavailable")).toBe(true);
  });

  test("they are refused with 503 if one said so: it is not the client that is at fault", async () => {
    const { refusal } = await broken({ storeFailure: "closed", onError: () => {} }).check(request());
    expect(refusal).toMatchObject({
      status: 503,
      problem: {
        type: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        status: 503,
      },
    });
    expect(Object.fromEntries(refusal!.headers)["Retry-After"]).toBe("1");
  });

  test("or the failure is handed on", async () => {
    await expect(broken({ storeFailure: "error" }).check(request())).rejects.toMatchObject({
      code: "store_unavailable",
    });
  });

  test("a limit that is closed is a mistake, and is handed on in every mode", async () => {
    const closed = limit("per-address", "1/h");
    await closed.close();
    await expect(new Door(closed).check(request())).rejects.toMatchObject({ code: "closed" });
  });

  test("a store full of keys in use refuses the newcomer instead of forgetting somebody", async () => {
    const errors: unknown[] = [];
    const door = new Door(limit("per-address", "2/h", { maxKeys: 2 }), {
      onError: (error) => void errors.push(error),
    });
    const statuses: (number | undefined)[] = [];
    for (const last of [1, 2, 3, 1])
      statuses.push((await door.check(request({ address: `192.0.2.${last}` }))).refusal?.status);
    expect(statuses).toEqual([undefined, undefined, 429, undefined]);
    expect(errors).toMatchObject([{ code: "too_many_keys" }]);
  });

  test("a guarded store that is closed answers 503 as well", async () => {
    const inner = memory();
    const guarded: LimitStore = {
      ...silentStore(),
      consume: async (rule, key, cost) => ({
        ...inner.peek(rule, key, cost),
        allowed: false,
        retryAfterUs: 9e6,
        mode: "closed",
      }),
    };
    const { refusal } = await new Door(limit("per-address", "1/h", { store: guarded })).check(request());
    expect(refusal?.status).toBe(503);
    expect(Object.fromEntries(refusal!.headers)["Retry-After"]).toBe("9");
  });
});

describe("headers", () => {
  test("follow the draft one chooses, with those of old on request", async () => {
    const names = async (headers: DoorOptions["headers"]) =>
      (await new Door(limit("l", "5/60s"), { headers: headers! }).check(request())).headers.map(
        ([name]) => name,
      );
    expect(await names({ draft: 7 })).toEqual(["RateLimit-Policy", "RateLimit"]);
    expect(await names({ draft: 6 })).toHaveLength(4);
    expect(await names({ draft: false, legacy: "epoch" })).toEqual([
      "X-RateLimit-Limit",
      "X-RateLimit-Remaining",
      "X-RateLimit-Reset",
    ]);
    expect(await names(false)).toEqual([]);
  });

  test("none still leaves Retry-After with a refusal", async () => {
    const door = new Door(limit("l", "1/60s"), { headers: false });
    await door.check(request());
    expect(Object.keys(headersOf(await door.check(request())))).toEqual([
      "Retry-After",
      "Cache-Control",
      "Content-Type",
    ]);
  });

  test("carry a partition key that tells budgets apart and names nobody", async () => {
    const door = new Door(limit("l", "5/60s"), { headers: { partitionSecret: "0123456789abcdef" } });
    const of = async (address: string) =>
      /pk=:([^:]+):/.exec(headersOf(await door.check(request({ address })))["RateLimit"]!)![1]!;
    const [one, same, other] = [await of("192.0.2.1"), await of("192.0.2.1"), await of("192.0.2.2")];
    expect(one).toBe(same);
    expect(one).not.toBe(other);
    expect(Buffer.from(one, "base64")).toHaveLength(12);
  });

  test("spread the return of refused clients by jitter", async () => {
    const door = new Door(limit("l", "1/60s"), { headers: { jitterMs: 10_000 }, random: () => 0.5 });
    await door.check(request());
    const headers = headersOf(await door.check(request()));
    expect(headers["Retry-After"]).toBe("65");
    expect(headers["RateLimit"]).toBe('"l";r=0;t=65');
  });

  test("speak of no time longer than the limit takes to recover, whatever the store's clock says", async () => {
    const ahead = virtualClock();
    const door = new Door(limit("l", "5/60s", { clock: ahead }), { clock: virtualClock(0) });
    expect(headersOf(await door.check(request()))["RateLimit"]).toBe('"l";r=4;t=60');
  });
});

describe("options", () => {
  const l = limit("l", "1/s");
  test.each<[string, DoorLimits, unknown, RegExp]>([
    ["no limit", [], {}, /at least one limit/],
    ["something else", {} as never, {}, /rule: option limit: expected a rate limit, got nothing/],
    ["two limits of one name", [l, l], {}, /two limits are called "l"/],
    ["a name that no header holds", limit("größe", "1/s"), {}, /printable ASCII only/],
    [
      "a draft there is not",
      l,
      { headers: { draft: 5 } },
      /option headers.draft: expected a draft from 6 to 11/,
    ],
    ["trust in everybody", l, { trust: true }, /lets? clients choose their address/],
    ["a cost below 0", l, { cost: -1 }, /option cost/],
    ["an option there is not", l, { windowMs: 5 }, /unknown option "windowMs"/],
    ["a short secret", l, { headers: { partitionSecret: "short" } }, /partitionSecret/],
  ])("with %s are refused", (_what, limits, options, message) => {
    expect(() => new Door(limits, options as DoorOptions)).toThrow(message);
  });

  test("give a limit another name for clients", async () => {
    const door = new Door({ limit: limit("größe", "1/s"), name: "size" });
    expect(headersOf(await door.check(request()))["RateLimit"]).toMatch(/^"size";/);
  });
});

test("a listener that throws disturbs nobody", async () => {
  const errors: unknown[] = [];
  const onDenied = (): never => {
    throw new Error("listener");
  };
  const door = new Door(limit("l", "1/h"), {
    key: byHeader("x-api-key"),
    onDenied,
    onError: (error) => void errors.push(error),
  });
  await door.check(request());
  expect((await door.check(request())).refusal?.status).toBe(429);
  expect(errors).toMatchObject([{ message: "listener" }]);
});

test("a key that no limit takes is made one that it does", async () => {
  const door = new Door(limit("l", "1/h"), { key: ({ url }) => url });
  for (const url of [`/${"x".repeat(5000)}`, "/a\n", "/\ud800", "/é"]) {
    expect((await door.check(request({ url }))).refusal).toBeUndefined();
    expect((await door.check(request({ url }))).refusal?.status).toBe(429);
  }
});

test("limits in different distant stores cannot decide together, and it is said at once", () => {
  const distant = [silentStore(), silentStore()].map((store, i) => limit(`l${i}`, "1/s", { store }));
  expect(() => new Door(distant)).toThrow(/one store/);
});
