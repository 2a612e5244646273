import type { TaskStore } from "../store/task-store.ts";
import { periodicService, type Round, type Service } from "./service.ts";

/** Batches removed in one round at most: the next round goes on where this one stopped. */
const batchesPerRound = 50;

/** Removes finished tasks, ledger rows and idempotency keys past their retention, a bounded amount a round. */
export function pruner(store: TaskStore, round: Omit<Round, "name" | "run">): Service {
  let after: string | undefined;
  return periodicService({
    ...round,
    name: "pruner",
    async run(going) {
      for (let batch = 0; batch < batchesPerRound && going(); batch++) {
        after = await store.prune(after);
        if (after === undefined) return;
      }
    },
  });
}
