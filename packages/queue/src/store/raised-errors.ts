import type { ErrorCode } from "@sluice/core";

/**
 * What the routines of our own schema raise, by SQLSTATE: `RAISE EXCEPTION USING ERRCODE = 'SL001', MESSAGE = …`.
 * The message of the exception becomes the message of the error. The class SL belongs to no one else.
 */
export const raisedErrors: Readonly<Record<string, ErrorCode>> = Object.freeze({
  SL001: "idempotency_conflict",
});
