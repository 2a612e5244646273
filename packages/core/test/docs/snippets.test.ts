/**
 * The TypeScript of the documents compiles, runs and prints what they say. Programs get a database of their own in
 * DATABASE_URL, and a Redis in REDIS_URL.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ProvidedRedis, provideRedis } from "../../../../tools/servers/redis.ts";
import { isDocument, misfencedBlocks, readSnippets } from "../../../../tools/snippets/snippet.ts";
import { Workshop } from "../../../../tools/snippets/workshop.ts";
import { databaseUrl } from "../../../../tools/testing/database.ts";
import { describeViolations, readTree } from "../../../../tools/tidy/tree.ts";

const documents = readTree(join(import.meta.dirname, "../../../..")).filter(({ path }) => isDocument(path));
const snippets = documents.flatMap(readSnippets);
const programs = snippets.filter(({ noRun }) => noRun === undefined);

const database = `snippets_${randomBytes(4).toString("hex")}`;
const workshop = new Workshop(snippets);
let redis: ProvidedRedis;

beforeAll(async () => {
  redis = await provideRedis();
  await administer(`create database ${database}`);
});

afterAll(async () => {
  workshop[Symbol.dispose]();
  await redis.stop();
  await administer(`drop database if exists ${database} with (force)`);
});

test("there are documents, and no block of theirs is passed over", () => {
  expect(programs.length).toBeGreaterThan(20);
  expect(describeViolations(misfencedBlocks(documents))).toEqual([]);
});

test("every block compiles", { timeout: 180_000 }, async () => {
  expect(describeViolations(await workshop.compile())).toEqual([]);
});

test.for(programs.map((program) => ({ name: `${program.path}:${program.line}`, program })))(
  "$name runs",
  { timeout: 90_000 },
  async ({ program }, { skip }) => {
    if (redis.missing !== undefined && program.code.includes("REDIS_URL")) skip(redis.missing);
    const { ok, text } = await workshop.run(program, environment());
    expect(ok, text).toBe(true);
  },
);

function environment(): Record<string, string> {
  const url = new URL(databaseUrl());
  url.pathname = `/${database}`;
  return { DATABASE_URL: url.href, ...(redis.url === undefined ? {} : { REDIS_URL: redis.url }) };
}

async function administer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl() });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
