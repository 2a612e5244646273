/** What became of a call whose answer is an error, in the store's words. */
import { SluiceError } from "../../base/errors.ts";

/** Answers by which a server says that it did not run the script at all. */
const refusals: ReadonlySet<string> = new Set([
  "ASK",
  "BUSY",
  "CLUSTERDOWN",
  "CROSSSLOT",
  "LOADING",
  "MASTERDOWN",
  "MISCONF",
  "MOVED",
  "NOAUTH",
  "NOPERM",
  "NOREPLICAS",
  "NOSCRIPT",
  "OOM",
  "READONLY",
  "TRYAGAIN",
  "UNKILLABLE",
  "WRONGPASS",
]);

/** The first word of a server's error, such as `READONLY`; undefined for an error of the client's own. */
export function refusalOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  // An error within a script is told as "ERR ... READONLY You can't write ..." by some versions.
  const word = /^(?:ERR (?:Error running script|user_script).*? -?)?([A-Z]+)\b/.exec(error.message)?.[1];
  return word !== undefined && refusals.has(word) ? word : undefined;
}

/**
 * The store's error for a client's: `store_timeout` when the client gave up waiting, `store_unavailable` otherwise. The details say
 * by what word the server refused (`refusal`), and whether the call may have taken effect all the same (`mayHaveRun`): after a
 * refusal it has not.
 */
export function failureOf(error: unknown): SluiceError {
  const refusal = refusalOf(error);
  const text = error instanceof Error ? error.message : String(error);
  const isTimeout =
    refusal === undefined && /time[d ]*out/i.test(`${(error as Error | undefined)?.name} ${text}`);
  return new SluiceError(
    isTimeout ? "store_timeout" : "store_unavailable",
    `the Redis store failed: ${text}`,
    {
      cause: error,
      details: { mayHaveRun: refusal === undefined, ...(refusal === undefined ? {} : { refusal }) },
    },
  );
}
