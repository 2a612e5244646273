import { type LimitRule, limit, parseRate, ratePolicy } from "@sluice/core";
import { type PostgresPool, type PostgresStoreOptions, postgres } from "@sluice/core/postgres";
import pg from "pg";
import { afterAll, describe, expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";

const { url, schema } = freshDatabase("batches");
const pool = new pg.Pool({ connectionString: url, max: 8 });
afterAll(() => pool.end());

/** The pool with a tally of what goes through it. */
function counted(): { readonly client: PostgresPool; readonly seen: { statements: number; atOnce: number } } {
  const seen = { statements: 0, atOnce: 0 };
  let running = 0;
  const query = async (config: pg.QueryConfig): Promise<pg.QueryResult> => {
    seen.statements++;
    seen.atOnce = Math.max(seen.atOnce, ++running);
    return pool.query(config).finally(() => running--);
  };
  return { client: { query: query as never }, seen };
}

async function open(options: PostgresStoreOptions = {}) {
  const { client, seen } = counted();
  const store = postgres(client, { schema, ...options });
  await store.consume(rule("warm-up", "1000000/h"), "k", 1);
  seen.statements = 0;
  seen.atOnce = 0;
  return { store, seen };
}

let declared = 0;

function rule(name: string, rate: string): LimitRule {
  const policy = ratePolicy(parseRate(rate), { algorithm: "sliding-window" });
  return Object.freeze({ name: `${name}-${declared++}`, policy });
}

describe("calls of one turn", () => {
  test("go in one statement, each with the answer it would have got alone", async () => {
    const { store, seen } = await open();
    const hot = rule("hot", "10/h");
    const costs = [4, 3, 5, 1, 1, 2, 1];
    const verdicts = await Promise.all(costs.map((cost) => store.consume(hot, "k", cost)));
    expect(seen.statements).toBe(1);
    expect(verdicts.map(({ granted, remaining }) => [granted, remaining])).toEqual([
      [4, 6],
      [3, 3],
      [0, 3],
      [1, 2],
      [1, 1],
      [0, 1],
      [1, 0],
    ]);
  });

  test("of every kind go together too", async () => {
    const { store, seen } = await open();
    const [one, two] = [rule("one", "5/h"), rule("two", "2/h")];
    const [first, group, peeked, upTo, , denied] = await Promise.all([
      store.consume(one, "k", 1),
      store.consumeAll([
        { rule: one, key: "k", cost: 2 },
        { rule: two, key: "k", cost: 2 },
      ]),
      store.peek(one, "k", 1),
      store.consumeUpTo(one, "k", 9),
      store.reset(two, "k"),
      store.consumeAll([
        { rule: one, key: "k", cost: 1 },
        { rule: two, key: "k", cost: 2 },
      ]),
    ]);
    expect(seen.statements).toBe(1);
    expect(first.remaining).toBe(4);
    expect(group.map(({ remaining }) => remaining)).toEqual([2, 0]);
    expect(peeked.remaining).toBe(2);
    expect([upTo.granted, upTo.remaining]).toEqual([2, 0]);
    expect(denied.map(({ allowed, granted, remaining }) => [allowed, granted, remaining])).toEqual([
      [false, 0, 0],
      [true, 0, 2],
    ]);
  });
});

test("a lone call is one statement, and asks of the next turn do not wait for it", async () => {
  const { store, seen } = await open();
  const calls = rule("lone", "100/h");
  const first = store.consume(calls, "a", 1);
  await new Promise((resolve) => setImmediate(resolve));
  await Promise.all([first, store.consume(calls, "b", 1)]);
  expect(seen).toEqual({ statements: 2, atOnce: 2 });
});

test("no more statements are on their way than may be, and those that come meanwhile fill the next", async () => {
  const { store, seen } = await open({ maxStatements: 2, maxBatch: 50 });
  const calls = rule("many", "1000000/h");
  await Promise.all(Array.from({ length: 1000 }, (_, i) => store.consume(calls, `k${i}`, 1)));
  expect(seen).toEqual({ statements: 20, atOnce: 2 });
});

test("a decision over more keys than a statement takes is still one decision", async () => {
  const { store, seen } = await open({ maxBatch: 2 });
  const calls = rule("wide", "1/h");
  const draws = Array.from({ length: 300 }, (_, i) => ({ rule: calls, key: `k${i}`, cost: 1 }));
  expect((await store.consumeAll(draws)).every(({ granted }) => granted === 1)).toBe(true);
  expect((await store.consumeAll(draws)).some(({ allowed }) => allowed)).toBe(false);
  expect(seen.statements).toBe(2);
});

test("limits are declared on it as on any store, and two stores share what they keep", async () => {
  const [here, there] = [postgres(pool, { schema }), postgres(pool, { schema })];
  const mine = limit("shared", "3/h", { store: here });
  const theirs = limit("shared", "3/h", { store: there });
  expect((await mine.for("acme").tryAcquire(2)).remaining).toBe(1);
  const denied = await theirs.for("acme").tryAcquire(2);
  expect(denied).toMatchObject({ allowed: false, remaining: 1, violated: ["shared"], key: "acme" });
  await mine.for("acme").reset();
  expect((await theirs.for("acme").tryAcquire(3)).allowed).toBe(true);
});
