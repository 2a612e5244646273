/**
 * The stand-in API as its own process. It tells its parent the address and every arrival over the IPC channel,
 * stamps the marks the parent asks for with its own clock, and exits when the parent is gone, however it went.
 */

import { dataTypes, providers } from "../providers.ts";
import { type ArrivalNotice, type CutNotice, startStandIn } from "./server.ts";

/** What the stand-in tells its parent. */
export type StandInMessage =
  | { readonly kind: "listening"; readonly url: string }
  | { readonly kind: "arrival"; readonly arrival: ArrivalNotice }
  | { readonly kind: "cut"; readonly cut: CutNotice }
  | { readonly kind: "marked"; readonly mark: number; readonly atUs: number };

/** What the parent asks of the stand-in: the time on the meter's clock, under a number of the parent's choice. */
export interface MarkRequest {
  readonly kind: "mark";
  readonly mark: number;
}

const tell = (message: StandInMessage): void => {
  // After a disconnect there is nobody to tell; the exit below is already on its way.
  if (process.connected) process.send?.(message);
};

// Ctrl-C reaches every process of the terminal; the parent decides when the API goes.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => process.exit(0));
process.on("disconnect", () => process.exit(0));

const standIn = await startStandIn(
  { providers, dataTypes },
  { arrival: (arrival) => tell({ kind: "arrival", arrival }), cut: (cut) => tell({ kind: "cut", cut }) },
);
process.on("message", (message: MarkRequest) => {
  if (message.kind === "mark") tell({ kind: "marked", mark: message.mark, atUs: standIn.nowUs() });
});
tell({ kind: "listening", url: standIn.url });
