import { expect, it } from "vitest";
import { logLine } from "./log-line.ts";

const first = { queue: "queue_users", provider: "aws", dataType: "users", number: 1, seconds: 0 };

it("writes the line other people's scripts read, character for character", () => {
  expect(logLine(first)).toBe("[queue_users       ] [AWS  ][users      ] Request #1 -   0.00s");
});

it("keeps its columns up to 9999.99 seconds and for the longest names", () => {
  const last = {
    queue: "queue_permissions",
    provider: "azure",
    dataType: "permissions",
    number: 5,
    seconds: 9999.994,
  };
  expect(logLine(last)).toBe("[queue_permissions ] [AZURE][permissions] Request #5 -9999.99s");
  expect(logLine(last)).toHaveLength(logLine(first).length);
});

it("does not cut what is longer than its column", () => {
  expect(logLine({ ...first, queue: "a_queue_of_some_length" })).toContain("[a_queue_of_some_length]");
});
