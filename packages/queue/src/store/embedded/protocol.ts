/** What the main thread and the thread of the embedded engine say to each other. Plain data only. */
import type { ServerError } from "../database-errors.ts";

/** A parameter as PostgreSQL reads it: text, bytes of a bytea, or NULL. */
export type Parameter = string | Uint8Array | null;

/** What a thread is started with. */
export interface EngineStart {
  /** Where the database lies; undefined keeps it in memory. */
  readonly directory: string | undefined;
  /** A data directory to begin with instead of creating one: a tar archive. */
  readonly template: Uint8Array<ArrayBuffer> | undefined;
  /** Two words shared with the main thread: see {@link flag}. */
  readonly flags: SharedArrayBuffer;
}

/** Positions in the shared words. */
export const flag = {
  /** 1 while a statement runs. */
  busy: 0,
  /** Set to 1 by the main thread: start no further statement. */
  stop: 1,
} as const;

/** What the main thread asks for. Answered in the order of asking. */
export type EngineRequest =
  /** Runs a prepared statement. `text` comes with the first use of a name. */
  | {
      readonly kind: "statement";
      readonly id: number;
      readonly name: string;
      readonly text: string | undefined;
      readonly values: readonly Parameter[];
    }
  /** Runs a string of statements as the simple protocol does. */
  | { readonly kind: "script"; readonly id: number; readonly sql: string }
  /** Shuts the database down in order and ends the thread. */
  | { readonly kind: "stop"; readonly id: number };

/** What the thread says. */
export type EngineReply =
  /** It is up. `template` is the fresh data directory as a tar archive, if one was created in memory. */
  | { readonly kind: "ready"; readonly template: Uint8Array<ArrayBuffer> | undefined }
  /** It could not be started. */
  | { readonly kind: "unable"; readonly reason: "not-installed" | "failed"; readonly message: string }
  | ({ readonly kind: "answer"; readonly id: number } & EngineAnswer)
  | { readonly kind: "error"; readonly id: number; readonly error: ServerError }
  | { readonly kind: "notification"; readonly channel: string; readonly payload: string }
  /** It broke down and is of no more use. */
  | { readonly kind: "broken"; readonly message: string };

/** What a statement came to. */
export interface EngineAnswer {
  /** The command, as in "SELECT" or "ROLLBACK". */
  readonly command: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}
