import { expect, test } from "vitest";
import { summaryLines } from "./suite-reporter.ts";

test("the summary counts each suite, names every skip with its reason, and ends with the total", () => {
  const suites = new Map([
    ["unit", { passed: 12, failed: 0, skipped: 0 }],
    ["integration", { passed: 3, failed: 1, skipped: 2 }],
  ]);
  const skips = [
    { name: "a.test.ts > works on 18", reason: "no PostgreSQL 18" },
    { name: "b.test.ts > works", reason: undefined },
  ];
  expect(summaryLines(suites, skips)).toEqual([
    "",
    "Suites:",
    "  unit         12 passed, 0 failed, 0 skipped",
    "  integration  3 passed, 1 failed, 2 skipped",
    "",
    "!!! 2 TESTS WERE SKIPPED:",
    "!!!   a.test.ts > works on 18: no PostgreSQL 18",
    "!!!   b.test.ts > works: NO REASON GIVEN (this fails the run)",
    "",
    "15 passed, 1 failed, 2 skipped",
  ]);
});
