/** When to kill a worker in a run with `--crash`. */

import { type DataType, dataTypes, providers } from "./providers.ts";

/** One kill to come. */
export interface PlannedKill {
  /** Milliseconds after the first request of the run. */
  readonly afterMs: number;
  /** Wait from then on for the next request to arrive, and kill while it is in flight. */
  readonly inCall: boolean;
}

// Early, while all three queues are busy; in the middle of a call; late, when only the slower queues are left.
const instants: readonly { readonly share: number; readonly inCall: boolean }[] = [
  { share: 0.08, inCall: false },
  { share: 0.35, inCall: true },
  { share: 0.65, inCall: false },
];

/** How long the requests of one data type take at the pace of its limit, in milliseconds, first to last. */
export function paceMs(dataType: DataType, requestsPerPair: number): number {
  return ((providers.length * requestsPerPair - 1) * dataType.periodMs) / dataType.limit;
}

/** How long a run takes from the first request to the last, in milliseconds: as long as its slowest queue. */
export function expectedMs(requestsPerPair: number): number {
  return Math.max(...dataTypes.map((dataType) => paceMs(dataType, requestsPerPair)));
}

/** Three kills spread over the run: at 8 %, 35 % (in the middle of a call) and 65 % of its expected length. */
export function planKills(requestsPerPair: number): PlannedKill[] {
  const length = expectedMs(requestsPerPair);
  return instants.map(({ share, inCall }) => ({ afterMs: Math.round(share * length), inCall }));
}
