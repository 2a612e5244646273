/** A task's state. `running` means that there is a live lease on it. */
export type TaskState = "waiting" | "scheduled" | "running" | "succeeded" | "dead" | "cancelled";

/**
 * The states of a task and every edge between them; `docs/task-lifecycle.md` draws this table and a test keeps the two equal.
 * `running` means a live lease. The end states are final, but for an operator's retry of what is dead or cancelled.
 */
export const taskTransitions: Readonly<Record<TaskState, readonly TaskState[]>> = {
  scheduled: ["waiting", "cancelled"],
  waiting: ["running", "cancelled"],
  running: ["succeeded", "scheduled", "dead", "cancelled", "waiting"],
  succeeded: [],
  dead: ["waiting"],
  cancelled: ["waiting"],
};

/** Whether a task in this state will not run again by itself. */
export function isEnded(state: TaskState): boolean {
  return state === "succeeded" || state === "dead" || state === "cancelled";
}
