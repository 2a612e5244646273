/**
 * The history a run leaves behind, as the checker sees it: five logs, none of them kept by the system under test
 * except the final export. `README.md` beside this file defines the line formats; `read.ts` turns lines into these
 * records. All times are microseconds: `mono` ones on CLOCK_MONOTONIC (comparable between the processes of one
 * machine), `store` ones on the store's clock (microseconds since the epoch).
 *
 * Nothing here imports anything of the product: a checker that shares code with what it judges shares its errors.
 */

/** A token bucket of `limit` starts per `periodUs`, holding at most `burst`. `guardUs` widens the period against jitter. */
export interface RatePolicy {
  readonly limit: number;
  readonly periodUs: number;
  readonly burst: number;
  readonly guardUs: number;
}

/** What a queue promised. `null` stands for "no limit". */
export interface QueuePolicy {
  readonly rate: RatePolicy | null;
  readonly concurrency: number | null;
  readonly partition: { readonly rate: RatePolicy | null; readonly concurrency: number | null };
  readonly maxAttempts: number;
  /** Longest wait between a failed attempt and the next, jitter included. */
  readonly backoffMaxMs: number;
}

/** The policies of a run (log P), with the bounds the liveness checks use. */
export interface Policies {
  readonly leaseMs: number;
  readonly sweepMs: number;
  /** From PostgreSQL accepting connections to the workers being back on it. */
  readonly reconnectMs: number;
  /** D of the liveness invariants: what a start may take beyond everything that is accounted for. */
  readonly slackMs: number;
  readonly queues: Readonly<Record<string, QueuePolicy>>;
}

/** What a client knows about a call: `unknown` when no answer came, or an answer that does not tell. */
export type Outcome = "ok" | "fail" | "unknown";

/** One task asked for by an enqueue. `item` is the client's own name for it and travels in the task's input. */
export interface EnqueueItem {
  readonly item: string;
  readonly queue: string;
  readonly partition: string;
  readonly key: string | null;
  readonly delayMs: number;
  readonly task: string | null;
  readonly duplicate: boolean;
}

/** One enqueue call (log C). `returned` is Infinity when it never came back. */
export interface EnqueueCall {
  readonly id: string;
  readonly invoked: number;
  readonly returned: number;
  readonly outcome: Outcome;
  readonly items: readonly EnqueueItem[];
  readonly ref: string;
}

/** One cancel or retry call on a task (log C). */
export interface Command {
  readonly op: "cancel" | "retry";
  readonly task: string;
  readonly invoked: number;
  readonly returned: number;
  readonly outcome: Outcome;
  readonly ref: string;
}

/** One reading of a task by a client (log C). */
export interface Observation {
  readonly observer: string;
  readonly task: string;
  readonly invoked: number;
  readonly returned: number;
  readonly state: string;
  readonly fence: number | null;
  readonly value: string | null;
  readonly ref: string;
}

/** One execution of a handler (log S): its start line and, unless its process died, its end line. */
export interface Run {
  readonly task: string;
  readonly fence: number;
  readonly attempt: number;
  readonly queue: string;
  readonly partition: string;
  readonly process: string;
  readonly start: number;
  /** The start the store granted, store clock; null if the handler was not told. */
  readonly startAt: number | null;
  readonly ref: string;
  end: number | null;
  outcome: "ok" | "error" | "aborted" | null;
  value: string | null;
  endRef: string | null;
}

/** A step's body being executed, or a step's value as the handler received it (log S). */
export interface StepEvent {
  readonly kind: "body" | "step";
  readonly task: string;
  readonly fence: number;
  readonly step: string;
  readonly mono: number;
  readonly value: string | null;
  readonly ref: string;
}

/** A worker's note about a grant or a run that ended other than by its handler (log S). */
export interface Note {
  readonly kind: "late" | "stale" | "lost";
  readonly task: string;
  readonly fence: number;
  readonly mono: number;
  readonly ref: string;
}

export interface Span {
  readonly from: number;
  readonly to: number;
}

/** One process: from its first line to its death. Stops are SIGSTOP to SIGCONT; stalls are what its own timer noticed. */
export interface Process {
  readonly name: string;
  born: number;
  lastSeen: number;
  /** Earliest instant at which it may have been dead; Infinity while it lived. */
  diedFrom: number;
  /** Instant at which it was certainly dead. */
  diedBy: number;
  readonly stops: Span[];
  readonly stalls: Span[];
}

/** A fault (log F) as it was done. `to` is its end: the process gone, continued, or PostgreSQL accepting again. */
export interface Fault {
  readonly what: "kill" | "stop" | "restart" | "exit" | "drain";
  readonly who: string;
  readonly from: number;
  readonly to: number;
  readonly ref: string;
}

/** One start the ledger admitted (log D), of the queue's limit or of a partition's. */
export interface Grant {
  readonly scope: "queue" | "partition";
  readonly queue: string;
  readonly partition: string;
  readonly task: string;
  readonly fence: number;
  /** Store clock: the start, and the claim that granted it. */
  readonly start: number;
  readonly at: number;
  readonly ref: string;
}

/** A task as the final export has it. Instants on the store's clock. */
export interface FinalTask {
  readonly id: string;
  readonly item: string | null;
  readonly queue: string;
  readonly partition: string;
  readonly state: string;
  readonly attempt: number;
  /** The fence of its last claim; null if it was never claimed. */
  readonly fence: number | null;
  readonly result: string | null;
  readonly enqueuedAt: number | null;
  readonly startedAt: number | null;
  readonly finishedAt: number | null;
  readonly ref: string;
}

export interface FinalStep {
  readonly task: string;
  readonly step: string;
  readonly fence: number | null;
  readonly output: string | null;
  /** When it was recorded, store clock. */
  readonly at: number | null;
  readonly ref: string;
}

/** A live run, a lane or a timer left in the final export. */
export interface FinalRun {
  readonly task: string;
  readonly fence: number;
  readonly ref: string;
}
export interface FinalLane {
  readonly queue: string;
  readonly partition: string;
  readonly running: number | null;
  readonly waiting: number | null;
  readonly ref: string;
}
export interface FinalTimer {
  readonly task: string;
  readonly ref: string;
}
/** What the product says a queue holds, by state, and how many tasks of it were deleted. */
export interface FinalCounts {
  readonly queue: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly deleted: number;
  readonly ref: string;
}

export interface History {
  readonly policies: Policies;
  readonly enqueues: EnqueueCall[];
  readonly commands: Command[];
  readonly observations: Observation[];
  /** Items that handlers asked for (logs of effects, since no client called), with the answer's task once there was one. */
  readonly children: Map<string, { readonly task: string | null; readonly ref: string }>;
  readonly runs: Run[];
  readonly steps: StepEvent[];
  readonly notes: Note[];
  readonly processes: Map<string, Process>;
  readonly faults: Fault[];
  readonly grants: Grant[];
  readonly tasks: FinalTask[];
  readonly finalSteps: FinalStep[];
  readonly finalRuns: FinalRun[];
  readonly lanes: FinalLane[];
  readonly timers: FinalTimer[];
  readonly counts: FinalCounts[];
  /** Ledger rows older than this (store clock) were deleted by retention; 0 when none were. */
  ledgerFrom: number;
  /** Wall minus monotonic, median over all processes, and its spread. */
  wallOffset: number;
  wallSpread: number;
  /** The last instant any log speaks of, monotonic. */
  until: number;
}

/** The states a task may rest in for ever. */
export const terminalStates: ReadonlySet<string> = new Set(["succeeded", "dead", "cancelled"]);

/** The published state graph. A client's retry of a dead or cancelled task is the one way out of a terminal state. */
export const stateGraph: Readonly<Record<string, readonly string[]>> = {
  staged: ["waiting", "scheduled", "cancelled"],
  waiting: ["running", "cancelled"],
  scheduled: ["waiting", "running", "cancelled"],
  running: ["succeeded", "scheduled", "dead", "cancelled", "waiting"],
  succeeded: [],
  dead: [],
  cancelled: [],
};
