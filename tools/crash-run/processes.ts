/** The run's own processes: started, signalled and ended by pid, each incarnation under a name of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { LogFile } from "./log-file.ts";
import { monotonicUs } from "./log-file.ts";
import { ordersVariable, type ProcessOrders } from "./scenario.ts";

/** A started process. */
export interface Running {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves when it said that it is ready, or ended. */
  readonly ready: Promise<void>;
  /** Resolves when it has ended, to how. */
  readonly ended: Promise<string>;
  /** Set before this run ends it, so that any other end counts as its own doing. */
  expected: boolean;
  stopped: boolean;
}

/** Starts and remembers processes. */
export class Processes {
  readonly #running = new Set<Running>();
  readonly #faults: LogFile;
  readonly #sources: string;

  /** `sources`: the folder of worker.ts and client.ts, which may be in a copied tree. */
  constructor(faults: LogFile, sources: string = import.meta.dirname) {
    this.#faults = faults;
    this.#sources = sources;
  }

  /** Starts `worker.ts` or `client.ts`. An end that nobody asked for is logged as a fault `exit`. */
  start(file: "worker.ts" | "client.ts", orders: ProcessOrders): Running {
    const child = spawn(
      process.execPath,
      ["--conditions=@sluice/source", "--no-warnings", join(this.#sources, file)],
      {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
        env: { ...process.env, [ordersVariable]: JSON.stringify(orders) },
      },
    );
    const ended = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("exit", (code, signal) => resolve(signal ?? `exit ${code}`));
    });
    const ready = Promise.race([
      new Promise<void>((resolve) => child.once("message", () => resolve())),
      ended.then(() => undefined),
    ]);
    const running: Running = { name: orders.name, child, ready, ended, expected: false, stopped: false };
    this.#running.add(running);
    void ended.then((how) => {
      this.#running.delete(running);
      if (running.expected) return;
      const now = monotonicUs();
      this.#faults.write({ what: "exit", who: running.name, from: now, how });
      console.error(`${running.name} ended by itself: ${how}`);
    });
    return running;
  }

  /** SIGKILL, logged. */
  async kill(running: Running): Promise<void> {
    running.expected = true;
    const from = monotonicUs();
    running.child.kill("SIGKILL");
    await running.ended;
    this.#faults.write({ what: "kill", who: running.name, from });
  }

  /** SIGTERM and the wait for a graceful end, logged; SIGKILL when it takes too long. */
  async drain(running: Running, limitMs: number): Promise<void> {
    running.expected = true;
    const from = monotonicUs();
    running.child.kill("SIGTERM");
    const impatience = setTimeout(() => running.child.kill("SIGKILL"), limitMs);
    const how = await running.ended;
    clearTimeout(impatience);
    if (how === "exit 0") this.#faults.write({ what: "drain", who: running.name, from });
    else this.#faults.write({ what: "kill", who: running.name, from, how });
  }

  /** SIGSTOP for a while, logged when it is over. */
  async stopFor(running: Running, ms: number): Promise<void> {
    const from = monotonicUs();
    running.stopped = true;
    running.child.kill("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, ms));
    running.stopped = false;
    running.child.kill("SIGCONT");
    this.#faults.write({ what: "stop", who: running.name, from });
  }

  /** Ends whatever is left, at once. */
  async endAll(): Promise<void> {
    await Promise.all(
      [...this.#running].map((running) => {
        running.expected = true;
        running.child.kill("SIGKILL");
        return running.ended;
      }),
    );
  }
}
