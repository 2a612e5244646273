import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readFeedback } from "./read-feedback.ts";
import { parseRetryAfter } from "./retry-after.ts";

const nowMs = Date.UTC(2026, 7, 1, 12);
const epochS = nowMs / 1000;
const hour = 3_600_000;

/** What a fetch response of this status with these headers says. */
function read(status: number, headers: Record<string, string>, options = {}) {
  return readFeedback(new Response(null, { status, headers }), { nowMs, ...options });
}

describe("Retry-After", () => {
  test.each([
    ["120", 120_000],
    ["0", 0],
    ["2.0", 2000],
    ["0.5", 500],
    [" 7 ", 7000],
    ["10, 30", 30_000],
    ["Sat, 01 Aug 2026 12:00:30 GMT", 30_000],
    ["Saturday, 01-Aug-26 12:00:30 GMT", 30_000],
    ["Sat Aug  1 12:00:30 2026", 30_000],
    ["Sat, 01 Aug 2020 12:00:30 GMT", 0],
  ])("%j is a wait", (text, expected) => {
    expect(parseRetryAfter(text, nowMs)).toBe(expected);
  });

  test.each(["", "-5", "+5", "soon", "1e3", "0x10", "NaN", "Infinity", "10;20", "10,", "tomorrow"])(
    "%j is ignored",
    (text) => {
      expect(parseRetryAfter(text, nowMs)).toBeUndefined();
    },
  );

  test.each([429, 503, 529, 403, 420, 430])("blocks with status %i", (status) => {
    expect(read(status, { "retry-after": "3" })).toEqual({
      source: "retry-after",
      refused: true,
      blockForMs: 3000,
      capped: false,
      quotas: [],
    });
  });

  test.each([200, 202, 301, 413])("means something else with status %i", (status) => {
    expect(read(status, { "retry-after": "3" })).toBeUndefined();
  });

  test("of headers alone counts as that of a refusal", () => {
    expect(readFeedback({ "Retry-After": "3" }, { nowMs })).toMatchObject({
      refused: true,
      blockForMs: 3000,
    });
  });

  test("as a date is measured against the answer's own clock", () => {
    const headers = { date: "Sat, 01 Aug 2015 00:00:00 GMT", "retry-after": "Sat, 01 Aug 2015 00:00:09 GMT" };
    expect(read(429, headers)?.blockForMs).toBe(9000);
  });

  test.each(["315360000", "9".repeat(400), "Fri, 01 Aug 2036 12:00:00 GMT"])(
    "of ten years is cut to the cap, and said so: %s",
    (text) => {
      expect(read(429, { "retry-after": text })).toMatchObject({ blockForMs: hour, capped: true });
      expect(read(429, { "retry-after": text }, { capMs: 5000 })).toMatchObject({ blockForMs: 5000 });
    },
  );

  test("that cannot be read leaves a refusal that does not say how long", () => {
    expect(read(429, { "retry-after": "-5" })).toMatchObject({ source: "status", blockForMs: 1000 });
    expect(read(429, {}, { fallbackMs: 250 })).toMatchObject({ refused: true, blockForMs: 250 });
    expect(read(503, { "retry-after": "-5" })).toBeUndefined();
  });
});

describe("the standard fields", () => {
  const draft8 = {
    "ratelimit-policy": '"burst";q=20;w=1, "daily";q=5000;w=86400;pk=:dGVuYW50LTQy:',
    ratelimit: '"burst";r=0;t=1, "daily";r=4120;t=31900;pk=:dGVuYW50LTQy:',
  };

  test("of drafts 8 to 11 are read with every quota", () => {
    expect(read(200, draft8)).toEqual({
      source: "ratelimit",
      refused: false,
      blockForMs: 1000,
      capped: false,
      limit: 20,
      remaining: 0,
      resetMs: 1000,
      quotas: [
        { name: "burst", limit: 20, remaining: 0, resetMs: 1000, windowMs: 1000 },
        { name: "daily", limit: 5000, remaining: 4120, resetMs: 31_900_000, windowMs: 86_400_000 },
      ],
    });
  });

  test("tell of the quota that stays empty longest when several are", () => {
    const ratelimit = '"a";r=0;t=5, "b";r=0;t=60, "c";r=1;t=900, "d";r=0;t=30';
    expect(read(200, { ratelimit })).toMatchObject({ remaining: 0, resetMs: 60_000, blockForMs: 60_000 });
  });

  test("may come on several lines", () => {
    const lines = ["RateLimit", '"a";r=5', "ratelimit", '"b";r=1'];
    expect(readFeedback(lines, { nowMs })?.quotas).toEqual([
      { name: "a", remaining: 5 },
      { name: "b", remaining: 1 },
    ]);
  });

  test("block for an empty window unless told not to, and for a refusal all the same", () => {
    expect(read(200, draft8, { blockWhenEmpty: false })).not.toHaveProperty("blockForMs");
    expect(read(429, draft8, { blockWhenEmpty: false })?.blockForMs).toBe(1000);
  });

  test("give way to Retry-After, which takes precedence", () => {
    expect(read(429, { ...draft8, "retry-after": "7" })?.blockForMs).toBe(7000);
  });

  test("of draft 7 are read", () => {
    const headers = { ratelimit: "limit=100, remaining=0, reset=50", "ratelimit-policy": "100;w=60" };
    expect(read(429, headers)).toMatchObject({
      blockForMs: 50_000,
      quotas: [{ limit: 100, remaining: 0, resetMs: 50_000, windowMs: 60_000 }],
    });
  });

  test("of draft 6 and earlier are read", () => {
    const headers = {
      "ratelimit-limit": "10, 10;w=1, 50;w=60",
      "ratelimit-remaining": "3",
      "ratelimit-reset": "5",
      "ratelimit-policy": "10;w=1, 50;w=60",
    };
    expect(read(200, headers)).toEqual({
      source: "ratelimit",
      refused: false,
      capped: false,
      limit: 10,
      remaining: 3,
      resetMs: 5000,
      quotas: [{ limit: 10, remaining: 3, resetMs: 5000, windowMs: 1000 }],
    });
  });

  test("with an epoch for a reset, as GitLab sends it, are understood", () => {
    const headers = {
      "ratelimit-limit": "60",
      "ratelimit-remaining": "0",
      "ratelimit-reset": `${epochS + 20}`,
    };
    expect(read(429, headers)?.blockForMs).toBe(20_000);
  });

  test.each([
    '"a";r=-1;t=5',
    '"a";r=1.5',
    '"a";t=5',
    "5;r=0;t=5",
    '"a";r=0;t=5,',
    "limit=100, remaining=x",
    "🗝",
  ])("that are malformed say nothing: %s", (ratelimit) => {
    expect(readFeedback(new Map([["ratelimit", ratelimit]]), { nowMs })).toBeUndefined();
  });

  test("of an answer that a cache kept say nothing", () => {
    expect(read(200, { ...draft8, age: "12" })).toBeUndefined();
    expect(read(200, { ...draft8, age: "0" })).toBeDefined();
  });
});

describe("the headers of", () => {
  test("GitHub: seconds since the epoch, and 403 for a refusal", () => {
    const headers = {
      "x-ratelimit-limit": "5000",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": `${epochS + 90}`,
      "x-ratelimit-used": "5000",
      "x-ratelimit-resource": "core",
    };
    expect(read(403, headers)).toMatchObject({
      source: "github",
      refused: true,
      blockForMs: 90_000,
      limit: 5000,
      bucket: "core",
    });
    expect(read(403, { ...headers, "x-ratelimit-remaining": "12" })).toMatchObject({ refused: false });
  });

  test("GitHub's secondary limits: Retry-After while much remains", () => {
    const headers = { "x-github-request-id": "A1", "x-ratelimit-remaining": "4711", "retry-after": "60" };
    expect(read(403, headers)).toMatchObject({
      source: "github",
      refused: true,
      blockForMs: 60_000,
      remaining: 4711,
    });
  });

  test("OpenAI: durations, and a bucket that is no reason to wait when it is empty", () => {
    const headers = {
      "x-ratelimit-limit-requests": "60",
      "x-ratelimit-limit-tokens": "150000",
      "x-ratelimit-remaining-requests": "59",
      "x-ratelimit-remaining-tokens": "0",
      "x-ratelimit-reset-requests": "6ms",
      "x-ratelimit-reset-tokens": "1m30.5s",
    };
    expect(read(200, headers)).toEqual({
      source: "openai",
      refused: false,
      capped: false,
      limit: 150_000,
      remaining: 0,
      resetMs: 90_500,
      quotas: [
        { name: "requests", limit: 60, remaining: 59, resetMs: 6 },
        { name: "tokens", limit: 150_000, remaining: 0, resetMs: 90_500 },
      ],
    });
    expect(read(429, headers)?.blockForMs).toBe(90_500);
    expect(read(429, { ...headers, "retry-after": "2", "retry-after-ms": "1500" })?.blockForMs).toBe(1500);
  });

  test("Anthropic: RFC 3339, several kinds of tokens, 529 when overloaded", () => {
    const headers = {
      "anthropic-ratelimit-requests-limit": "50",
      "anthropic-ratelimit-requests-remaining": "49",
      "anthropic-ratelimit-requests-reset": "2026-08-01T12:00:02Z",
      "anthropic-ratelimit-output-tokens-limit": "8000",
      "anthropic-ratelimit-output-tokens-remaining": "100",
      "anthropic-ratelimit-output-tokens-reset": "2026-08-01T12:00:59Z",
    };
    expect(read(200, headers)).toMatchObject({
      source: "anthropic",
      limit: 8000,
      remaining: 100,
      resetMs: 59_000,
    });
    expect(read(429, { ...headers, "retry-after": "12" })).toMatchObject({
      refused: true,
      blockForMs: 12_000,
    });
    expect(read(529, { ...headers, "retry-after": "3" })).toMatchObject({ refused: true, blockForMs: 3000 });
  });

  test("Stripe: the reason, mostly without a time", () => {
    expect(read(429, { "stripe-rate-limited-reason": "endpoint-concurrency" })).toMatchObject({
      source: "stripe",
      scope: "endpoint-concurrency",
      blockForMs: 1000,
    });
  });

  test("Shopify's REST API: what is used of a bucket", () => {
    expect(read(200, { "x-shopify-shop-api-call-limit": "32/40" })).toMatchObject({
      source: "shopify",
      limit: 40,
      remaining: 8,
    });
    const full = { "x-shopify-shop-api-call-limit": "40/40", "retry-after": "2.0" };
    expect(read(429, full)).toMatchObject({
      source: "shopify",
      refused: true,
      blockForMs: 2000,
      remaining: 0,
    });
  });

  test("Shopify's GraphQL API: the cost in the body, refused with status 200", () => {
    const throttleStatus = { maximumAvailable: 1000, currentlyAvailable: 20, restoreRate: 50 };
    const body = {
      errors: [{ message: "Throttled", extensions: { code: "THROTTLED" } }],
      extensions: { cost: { requestedQueryCost: 101, actualQueryCost: null, throttleStatus } },
    };
    expect(read(200, {}, { body })).toMatchObject({
      source: "shopify",
      refused: true,
      blockForMs: 1620,
      remaining: 20,
    });
    expect(read(200, {}, { body: { extensions: body.extensions } })).toEqual({
      source: "shopify",
      refused: false,
      capped: false,
      limit: 1000,
      remaining: 20,
      resetMs: 19_600,
      quotas: [{ name: "cost", limit: 1000, remaining: 20, resetMs: 19_600 }],
    });
  });

  test("X, once Twitter", () => {
    const headers = {
      "x-rate-limit-limit": "15",
      "x-rate-limit-remaining": "0",
      "x-rate-limit-reset": `${epochS + 5}`,
    };
    expect(read(429, headers)).toMatchObject({ source: "twitter", blockForMs: 5000, limit: 15 });
  });

  test("Discord: the fraction, the bucket, and whether everything is blocked", () => {
    const headers = {
      "x-ratelimit-limit": "10",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": `${epochS + 4000}.123`,
      "x-ratelimit-reset-after": "1.25",
      "x-ratelimit-bucket": "abcd1234",
    };
    expect(read(200, headers)).toMatchObject({ source: "discord", blockForMs: 1250, bucket: "abcd1234" });
    expect(read(429, { ...headers, "x-ratelimit-scope": "shared", "retry-after": "2" })).toMatchObject({
      scope: "shared",
      blockForMs: 2000,
    });
    expect(read(429, { "x-ratelimit-global": "true", "retry-after": "65" })).toMatchObject({
      source: "discord",
      scope: "global",
      blockForMs: 65_000,
    });
    expect(read(429, headers, { body: { retry_after: 0.649 } })?.blockForMs).toBe(649);
  });

  test("Slack: Retry-After and nothing else", () => {
    expect(read(429, { "retry-after": "30" })).toMatchObject({ source: "retry-after", blockForMs: 30_000 });
  });

  test("Azure: milliseconds, and what remains of a subscription", () => {
    expect(read(429, { "x-ms-retry-after-ms": "84", "retry-after": "1" })).toMatchObject({
      source: "azure",
      blockForMs: 84,
    });
    expect(read(200, { "x-ms-ratelimit-remaining-subscription-reads": "11999" })).toMatchObject({
      remaining: 11_999,
    });
  });

  test("AWS: a refusal with status 400", () => {
    const headers = { "x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/coral/" };
    expect(read(400, headers)).toMatchObject({ source: "aws", refused: true, blockForMs: 1000 });
    expect(read(400, { "x-amzn-errortype": "ValidationException" })).toBeUndefined();
  });

  test("HubSpot and Kong: windows of their own", () => {
    const hubspot = {
      "x-hubspot-ratelimit-max": "100",
      "x-hubspot-ratelimit-remaining": "7",
      "x-hubspot-ratelimit-interval-milliseconds": "10000",
    };
    expect(read(200, hubspot)?.quotas).toEqual([{ limit: 100, remaining: 7, windowMs: 10_000 }]);
    const kong = {
      "x-ratelimit-limit-minute": "20",
      "x-ratelimit-remaining-minute": "0",
      "retry-after": "9",
    };
    expect(read(429, kong)).toMatchObject({ source: "kong", blockForMs: 9000, limit: 20 });
  });

  test.each([
    ["30", 30_000],
    [`${epochS + 30}`, 30_000],
    [`${nowMs + 30_000}`, 30_000],
    ["2026-08-01T12:00:30Z", 30_000],
    ["2026-08-01T12:01Z", 60_000],
    ["Sat, 01 Aug 2026 12:00:30 GMT", 30_000],
    ["1m", 60_000],
  ])("everybody else, with a reset of %s", (reset, expected) => {
    const headers = { "x-ratelimit-limit": "10", "x-ratelimit-remaining": "0.0", "x-ratelimit-reset": reset };
    expect(read(429, headers)).toMatchObject({ source: "x-ratelimit", blockForMs: expected, remaining: 0 });
  });
});

describe("an answer comes in many shapes", () => {
  const expected = { refused: true, blockForMs: 3000 };
  const shapes: Record<string, unknown> = {
    "a fetch response": new Response(null, { status: 429, headers: { "Retry-After": "3" } }),
    "an IncomingMessage": { statusCode: 429, headers: { "retry-after": "3" } },
    "an axios response": { status: 429, headers: { "retry-after": "3" }, data: {} },
    "an axios error": Object.assign(new Error(), {
      response: { status: 429, headers: { "retry-after": "3" } },
    }),
    "an SDK's error": Object.assign(new Error(), {
      status: 429,
      headers: new Headers({ "retry-after": "3" }),
    }),
    "an error with a response of headers alone": {
      status: 429,
      response: { headers: { "retry-after": "3" } },
    },
    Headers: new Headers({ "Retry-After": "3" }),
    "a Map": new Map([["RETRY-AFTER", "3"]]),
    pairs: [["Retry-After", "3"]],
    rawHeaders: ["Retry-After", "3", "X-Odd"],
    "an object with arrays": { "Retry-After": ["3"] },
    "an object with numbers": { "retry-after": 3 },
  };

  test.each(Object.entries(shapes))("%s", (_name, shape) => {
    expect(readFeedback(shape, { nowMs })).toMatchObject(expected);
  });

  test.each([[undefined], [null], [5], ["retry-after: 3"], [[]], [{}], [() => {}], [new Date()]])(
    "or is none: %s",
    (value) => {
      expect(readFeedback(value)).toBeUndefined();
    },
  );

  test("and one whose getters throw says nothing", () => {
    const hostile = new Proxy(
      {},
      {
        get: () => {
          throw new Error("no");
        },
      },
    );
    expect(readFeedback(hostile)).toBeUndefined();
    expect(
      readFeedback({
        headers: {
          get: () => {
            throw new Error("no");
          },
        },
      }),
    ).toBeUndefined();
  });
});

describe("whatever a server sends", () => {
  const names = [
    "retry-after",
    "retry-after-ms",
    "date",
    "age",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-after",
    "x-ratelimit-bucket",
    "x-ratelimit-global",
    "x-ratelimit-resource",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ms-retry-after-ms",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
    "x-shopify-shop-api-call-limit",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
    "x-amzn-errortype",
    "stripe-rate-limited-reason",
    "x-hubspot-ratelimit-max",
    "x-ratelimit-remaining-minute",
  ];
  const value = fc.oneof(
    fc.constantFrom(
      "0",
      "-1",
      "-0",
      "1e400",
      "NaN",
      "Infinity",
      "9".repeat(400),
      "0.0000001",
      "99999999999999999999",
      "253402300800",
      `${epochS + 5}`,
      `${nowMs}`,
      "1m30.5s",
      "99999999999d",
      "2026-08-01T12:00:02Z",
      "0000-01-01T00:00:00Z",
      "Sun, 06 Nov 1994 08:49:37 GMT",
      "Fri, 31 Dec 9999 23:59:59 GMT",
      '"a";r=0;t=999999999999999',
      "limit=1, remaining=0, reset=9",
      '"a";q=0;w=0',
      "40/40",
      "0/0",
      "/",
      "true",
      "ThrottlingException",
      "",
    ),
    fc.string(),
    fc.nat().map(String),
    fc.double().map(String),
  );
  const answer = fc.record({
    status: fc.oneof(fc.constantFrom(200, 400, 403, 429, 503, 529), fc.integer()),
    headers: fc.dictionary(fc.constantFrom(...names), value),
    data: fc.oneof(
      fc.anything(),
      fc.record({ extensions: fc.record({ cost: fc.anything() }), retry_after: fc.anything() }),
    ),
  });

  test("nothing is thrown, and every number is finite, at least 0, and no block above the cap", () => {
    fc.assert(
      fc.property(answer, fc.integer({ min: 0, max: 86_400_000 }), (given, capMs) => {
        const feedback = readFeedback(given, { nowMs, capMs });
        if (feedback === undefined) return;
        const { blockForMs = 0, quotas, limit = 0, remaining = 0, resetMs = 0 } = feedback;
        expect(blockForMs).toBeLessThanOrEqual(capMs);
        const numbers = [blockForMs, limit, remaining, resetMs];
        for (const quota of quotas)
          numbers.push(quota.limit ?? 0, quota.remaining ?? 0, quota.resetMs ?? 0, quota.windowMs ?? 0);
        for (const number of numbers) expect(Number.isFinite(number) && number >= 0).toBe(true);
        for (const number of [limit, remaining]) expect(Number.isSafeInteger(number)).toBe(true);
      }),
      { numRuns: 5000 },
    );
  });

  test("anything at all is taken or left", () => {
    fc.assert(
      fc.property(
        fc.anything({ withMap: true, withDate: true, withNullPrototype: true }),
        (any) => void readFeedback(any),
      ),
      {
        numRuns: 5000,
      },
    );
  });
});

test("an option out of bounds is refused", () => {
  expect(() => readFeedback({}, { capMs: -1 })).toThrow(/readFeedback: option capMs/);
});
