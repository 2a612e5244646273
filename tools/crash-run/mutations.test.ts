/** The defects are judged by mutants.ts, which takes minutes; that each still has its place in the product takes none. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { applyEdit, mutations } from "./mutations.ts";

const product = join(import.meta.dirname, "..", "..", "packages", "queue", "src");

test.each(mutations)('the defect "$name" finds its text once', ({ edits }) => {
  const missing = edits.filter(
    (edit) => applyEdit(readFileSync(join(product, edit.file), "utf8"), edit) === undefined,
  );
  expect(missing.map((edit) => `${edit.file}: ${edit.find}`)).toEqual([]);
});

describe("an edit", () => {
  const edit = { file: "x.sql", find: "a = $1 AND\n  b", replace: "$&" };

  test("matches any white space and takes its replacement as it is", () => {
    expect(applyEdit("WHERE a =  $1 AND b;", edit)).toBe("WHERE $&;");
  });

  test("is refused where its text is missing or ambiguous", () => {
    expect(applyEdit("WHERE a = $2 AND b", edit)).toBeUndefined();
    expect(applyEdit("a = $1 AND b, a = $1 AND b", edit)).toBeUndefined();
  });
});
