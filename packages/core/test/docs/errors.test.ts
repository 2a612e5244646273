import { readFileSync } from "node:fs";
import { type ErrorCode, errorTable } from "@sluice/core";
import { expect, test } from "vitest";

const page = readFileSync(new URL("../../../../docs/errors.md", import.meta.url), "utf8");

/** The rows of the page's tables: code, family, retry, and what it means. */
const rows = page
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .map((line) => line.split("|").map((cell) => cell.trim()))
  .map(([, code = "", family = "", retry = "", meaning = ""]) => ({
    code: code.replaceAll("`", ""),
    family,
    retry,
    meaning,
  }));

test("docs/errors.md documents every code of the table, and no other", () => {
  expect(rows.map(({ code }) => code).toSorted()).toEqual(Object.keys(errorTable).toSorted());
});

test("docs/errors.md gives family, retry and summary as the table has them", () => {
  for (const { code, family, retry, meaning } of rows) {
    const entry = errorTable[code as ErrorCode];
    expect({ code, family, retry }).toEqual({
      code,
      family: entry.family,
      retry: entry.retryable ? "yes" : "no",
    });
    expect(meaning.startsWith(entry.summary), `${code}: the page must begin with the summary`).toBe(true);
  }
});
