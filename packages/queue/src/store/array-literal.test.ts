import fc from "fast-check";
import { expect, test } from "vitest";
import { plainArray, textArray, uniform } from "./array-literal.ts";

/** Reads an array of texts as PostgreSQL's array_in does. */
function readArray(literal: string): (string | null)[] {
  const items: (string | null)[] = [];
  let at = 1;
  while (literal[at] !== "}") {
    if (literal[at] === ",") at++;
    if (literal[at] !== '"') {
      const end = literal.slice(at).search(/[,}]/) + at;
      const bare = literal.slice(at, end);
      items.push(bare === "NULL" ? null : bare);
      at = end;
      continue;
    }
    let text = "";
    for (at++; literal[at] !== '"'; at++) {
      if (literal[at] === "\\") at++;
      text += literal[at];
    }
    items.push(text);
    at++;
  }
  expect(literal[0]).toBe("{");
  expect(at).toBe(literal.length - 1);
  return items;
}

const text = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: fc.constantFrom("\\", '"', "{", "}", ",", " ", "N", "U", "L", "\n", "'") }),
  fc.constantFrom("NULL", "null", "", "{}", '"', "\\", "{a,b}"),
);

test("an array of texts comes back as it was", () => {
  fc.assert(
    fc.property(fc.array(fc.option(text)), (items) => {
      expect(readArray(textArray(items))).toEqual(items);
    }),
    { numRuns: 1000 },
  );
});

test("an array of numbers and ids comes back as it was", () => {
  const item = fc.oneof(fc.maxSafeInteger(), fc.uuid());
  fc.assert(
    fc.property(fc.array(fc.option(item)), (items) => {
      expect(readArray(plainArray(items))).toEqual(
        items.map((each) => (each === null ? null : String(each))),
      );
    }),
  );
});

test("one element stands for all exactly if all are the same", () => {
  expect(uniform(["a", "a", "a"])).toEqual(["a"]);
  expect(uniform(["a"])).toEqual(["a"]);
  expect(uniform(["a", "a", "b"])).toEqual(["a", "a", "b"]);
});
