/**
 * The two kinds of processes a run has beside itself: the stand-in API and the workers. Both hang on an IPC channel
 * and leave by themselves when this process is gone, so that a SIGKILL here leaves nothing behind.
 */

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { MarkRequest, StandInMessage } from "./stand-in/main.ts";
import type { StandInWatcher } from "./stand-in/server.ts";
import type { SyncOutcome } from "./sync.ts";
import type { WorkerMessage, WorkerOrder, WorkerSetup } from "./worker.ts";

/** The stand-in API, running. */
export interface StandInProcess {
  readonly url: string;
  /** The time on the meter's clock, in microseconds. Every instant of a report is on this one clock. */
  mark(): Promise<number>;
  stop(): Promise<void>;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<void>;
}

/** Whom a worker process tells. */
export interface WorkerWatcher {
  /** The worker works from now on; `done` is what had been done before, by queue. */
  working(done: Readonly<Record<string, number>>): void;
  finished(outcome: SyncOutcome): void;
  /** Something of interest that is no failure of the run. */
  note(text: string): void;
  /** The worker gave up, or ended without having been told to. */
  failed(error: WorkerFailed): void;
}

/** A worker process, running or starting. */
export interface WorkerProcess {
  /** SIGKILL: nothing of the worker runs after this. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** Asks the worker to finish what it runs and leave; kills it after 15 s. */
  stop(): Promise<void>;
}

/** A worker process failed; `code` is the code of its error. */
export class WorkerFailed extends Error {
  override readonly name = "WorkerFailed";
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const stopMs = 15_000;

/** Starts the stand-in API and waits for its address. */
export async function startStandInProcess(watcher: StandInWatcher): Promise<StandInProcess> {
  const child = start("./stand-in/main");
  const marks = new Map<number, (atUs: number) => void>();
  let markCount = 0;
  const exited = once(child, "exit").then(() => {});
  const url = await new Promise<string>((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the stand-in API did not start (exit code ${code})`)));
    child.on("message", (message: StandInMessage) => {
      if (message.kind === "listening") resolve(message.url);
      if (message.kind === "arrival") watcher.arrival(message.arrival);
      if (message.kind === "cut") watcher.cut(message.cut);
      if (message.kind === "marked") marks.get(message.mark)?.(message.atUs);
    });
  });
  return {
    url,
    exited,
    mark() {
      markCount += 1;
      const request: MarkRequest = { kind: "mark", mark: markCount };
      if (child.connected) child.send(request, () => {});
      const gone = exited.then(() => Promise.reject(new Error("the stand-in API has ended")));
      return Promise.race([new Promise<number>((resolve) => marks.set(request.mark, resolve)), gone]);
    },
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

/** Starts a worker process. */
export function startWorkerProcess(setup: WorkerSetup, watcher: WorkerWatcher): WorkerProcess {
  const child = start("./worker");
  const exited = once(child, "exit");
  let leaving = false;
  let failure: WorkerFailed | undefined;
  child.on("message", (message: WorkerMessage) => {
    if (message.kind === "working") watcher.working(message.done);
    if (message.kind === "finished") watcher.finished(message.outcome);
    if (message.kind === "note") watcher.note(message.text);
    if (message.kind === "fatal") failure = new WorkerFailed(message.code, message.message);
  });
  void exited.then(([code, signal]) => {
    if (leaving) return;
    watcher.failed(
      failure ?? new WorkerFailed("worker_exit", `a worker process ended by itself (${signal ?? code})`),
    );
  });
  order(child, { kind: "begin", ...setup });
  return {
    async kill() {
      leaving = true;
      child.kill("SIGKILL");
      await exited;
    },
    async stop() {
      leaving = true;
      order(child, { kind: "stop" });
      const deadline = setTimeout(() => child.kill("SIGKILL"), stopMs);
      await exited;
      clearTimeout(deadline);
    },
  };
}

function order(child: ChildProcess, message: WorkerOrder): void {
  // A child that died meanwhile cannot be told; its exit is reported on its own.
  if (child.connected) child.send(message, () => {});
}

function start(module: string): ChildProcess {
  // From source the modules end in .ts, built in .js; the children run from where this module runs.
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  const path = fileURLToPath(new URL(module + extension, import.meta.url));
  // Standard output belongs to the report (and with --json to machines): children write to standard error.
  return fork(path, [], { stdio: ["ignore", 2, 2, "ipc"] });
}
