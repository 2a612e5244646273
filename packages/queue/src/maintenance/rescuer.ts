import type { TaskStore } from "../store/task-store.ts";
import { periodicService, type Round, type Service } from "./service.ts";

/** How often leases that ran out are looked for: a fifth of the lease, at most 5 s. */
export function rescueEveryUs(leaseMs: number): number {
  return Math.min(5_000, leaseMs / 5) * 1000;
}

/** Takes back what workers whose lease ran out were running, so that their tasks start again. */
export function rescuer(
  store: TaskStore,
  round: Omit<Round, "name" | "run">,
  recovered: (count: number) => void,
): Service {
  return periodicService({
    ...round,
    name: "rescuer",
    async run() {
      const count = await store.workerRescue(false);
      if (count > 0) recovered(count);
    },
  });
}
