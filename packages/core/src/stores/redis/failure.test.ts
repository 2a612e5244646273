import { describe, expect, test } from "vitest";
import { failureOf, refusalOf } from "./failure.ts";

describe("a client's error", () => {
  test.each([
    ["READONLY You can't write against a read only replica.", "READONLY"],
    ["LOADING Redis is loading the dataset in memory", "LOADING"],
    ["CLUSTERDOWN Hash slot not served", "CLUSTERDOWN"],
    ["MOVED 3999 127.0.0.1:6381", "MOVED"],
    ["MASTERDOWN Link with MASTER is down", "MASTERDOWN"],
    ["BUSY Redis is busy running a script.", "BUSY"],
    ["NOAUTH Authentication required.", "NOAUTH"],
    ["OOM command not allowed when used memory > 'maxmemory'.", "OOM"],
  ])("that is the server's refusal has not run: %s", (message, refusal) => {
    const error = failureOf(new Error(message));
    expect([error.code, error.family, error.retryable]).toEqual(["store_unavailable", "store", true]);
    expect(error.details).toEqual({ mayHaveRun: false, refusal });
  });

  test.each([
    "Command timed out",
    "Connection timeout",
    "Socket timeout. Expecting data, but didn't receive any in 5000ms.",
  ])("that is a timeout may have run: %s", (message) => {
    const cause = new Error(message);
    const error = failureOf(cause);
    expect([error.code, error.cause, error.details]).toEqual(["store_timeout", cause, { mayHaveRun: true }]);
  });

  test.each([new Error("Connection is closed."), new Error("ERR unknown command"), "a text", undefined])(
    "of any other kind may have run: %s",
    (cause) => {
      expect(failureOf(cause)).toMatchObject({ code: "store_unavailable", details: { mayHaveRun: true } });
    },
  );

  test("within a script names the refusal all the same", () => {
    const message =
      "ERR Error running script (call to f_1234): @user_script:1: -READONLY You can't write against a read only replica.";
    expect(refusalOf(new Error(message))).toBe("READONLY");
  });
});
