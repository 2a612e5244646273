import type { LimitStore } from "../limit/store.ts";
import { agreements } from "./conformance/agreement.ts";
import { behaviours } from "./conformance/behaviours.ts";
import { groupBehaviours } from "./conformance/groups.ts";
import { leaseBehaviours } from "./conformance/leases.ts";
import { type VirtualClock, virtualClock } from "./virtual-clock.ts";

/** One thing every store must do. Hand it to the test runner of your choice. */
export interface ConformanceCase {
  /** A sentence about the behaviour. */
  readonly name: string;
  /** Rejects when the store does otherwise. */
  run(): Promise<void>;
}

/** The options of {@link storeConformance}. */
export interface ConformanceOptions {
  /** Another seed gives other random histories; default "". */
  readonly seed?: string;
}

/** Makes an empty store that takes its time from `clock`. Called once per case; the suite closes what it gets. */
export type MakeStore = (clock: VirtualClock) => LimitStore | Promise<LimitStore>;

/**
 * The suite a store must pass to hold the state of limits: its answers equal those of the pure algorithms to the
 * microsecond, over every operation and algorithm, whatever the order of requests and whatever the clock does.
 *
 * @example
 *     for (const { name, run } of storeConformance((clock) => memory({ clock }))) test(name, run);
 */
export function storeConformance(
  makeStore: MakeStore,
  { seed = "" }: ConformanceOptions = {},
): readonly ConformanceCase[] {
  const checks = [...agreements(seed), ...behaviours, ...groupBehaviours, ...leaseBehaviours];
  return checks.map(({ name, check }) => ({
    name,
    async run() {
      const clock = virtualClock();
      const store = await makeStore(clock);
      try {
        await check(store, clock);
      } finally {
        await store.close();
      }
    },
  }));
}
