import { type LimitRule, parseRate, ratePolicy } from "@sluice/core";
import { postgres } from "@sluice/core/postgres";
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { freshDatabase } from "../../../../tools/testing/database.ts";
import { rowKeyOf } from "../../src/stores/postgres/row-key.ts";

const { url, schema } = freshDatabase("keys");
const pool = new pg.Pool({ connectionString: url, max: 4 });
const store = postgres(pool, { schema });
afterAll(async () => {
  await store.close();
  await pool.end();
});

const policy = ratePolicy(parseRate("1/h"), { algorithm: "fixed-window" });

function rule(name: string): LimitRule {
  return Object.freeze({ name, policy });
}

const hostile = [
  "",
  " ",
  "\0",
  "a\0b",
  "a\0c",
  "'; DROP TABLE limit_keys; --",
  '"',
  "\\",
  '\\"',
  "{a,b}",
  "NULL",
  "null",
  "$1",
  "%s",
  "a\nb",
  "\ud800",
  "\ud801",
  "\udc00\ud800",
  "😀",
  "é",
  "e\u0301",
  "A",
  "a",
  "#",
  "#9:x",
  "1:a",
  "\u202e",
  "\ufeff",
  "x".repeat(512),
  `${"x".repeat(511)}y`,
  "😀".repeat(256),
  "\0".repeat(512),
];

test("each hostile key has a budget of its own, asked one by one and all at once", async () => {
  for (const key of hostile)
    expect((await store.consume(rule("one"), key, 1)).allowed, JSON.stringify(key)).toBe(true);
  for (const key of hostile)
    expect((await store.consume(rule("one"), key, 1)).allowed, JSON.stringify(key)).toBe(false);
  const together = await Promise.all(hostile.map((key) => store.consume(rule("two"), key, 1)));
  expect(together.every(({ allowed }) => allowed)).toBe(true);
  const again = await store.consumeAll(hostile.map((key) => ({ rule: rule("two"), key, cost: 1 })));
  expect(again.some(({ allowed }) => allowed)).toBe(false);
});

test("limit and key run into each other in no spelling", async () => {
  const pairs = [
    ["a", "b:c"],
    ["a:b", "c"],
    ["a:b:c", ""],
    ["", "a:b:c"],
    ["1:a", "b"],
    ["1", ":ab"],
    ["#", ""],
    ["", "#"],
    ["n".repeat(400), "k"],
    ["n".repeat(399), "nk"],
    ["limit\0", "k"],
    ["limit", "\0k"],
  ] as const;
  expect(new Set(pairs.map(([name, key]) => rowKeyOf(name, key))).size).toBe(pairs.length);
  for (const [name, key] of pairs)
    expect((await store.consume(rule(name), key, 1)).allowed, JSON.stringify([name, key])).toBe(true);
});

test("what is stored of a key is short, and readable when the key is", async () => {
  expect(rowKeyOf("github", "acme")).toBe("6:githubacme");
  expect(rowKeyOf("github", "a".repeat(512))).toMatch(/^#[\w-]{43}$/);
  expect(rowKeyOf("github", "zoë")).toMatch(/^#[\w-]{43}$/);
  const { rows } = await pool.query<{ longest: number }>(
    `SELECT max(octet_length(row_key)) AS longest FROM ${schema}.limit_keys`,
  );
  expect(rows[0]!.longest).toBeLessThanOrEqual(300);
});

test("keys of any script work in a database that knows only ASCII", async () => {
  const name = `ascii_${schema}`;
  await pool.query(
    `CREATE DATABASE ${name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`,
  );
  const address = new URL(url);
  address.pathname = `/${name}`;
  const other = new pg.Pool({ connectionString: address.href, max: 1 });
  // The server ends connections that are still closing when their database is dropped.
  other.on("error", () => undefined);
  const ascii = postgres(other);
  const verdicts = await Promise.all(hostile.map((key) => ascii.consume(rule("ascii"), key, 1)));
  expect(verdicts.every(({ allowed }) => allowed)).toBe(true);
  await ascii.close();
  await other.end();
  await pool.query(`DROP DATABASE ${name} WITH (FORCE)`);
});
