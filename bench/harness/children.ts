/**
 * Child processes of a benchmark: one program each, spoken to over the channel that `fork` opens, ended by their
 * own id. A call that takes longer than its bound ends the child, so that no row of a table can hang the run.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** A message that a child sends unasked, such as "a handler started". */
export interface Notice {
  readonly notice: string;
  readonly value: number;
  readonly atUs: number;
}

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** Longest wait for a child to leave after it was asked to, in milliseconds. */
const leaveMs = 5_000;

/** One child process that runs a program of this folder and answers calls. */
export class Child {
  /** Called for each notice of the child. */
  onNotice: (notice: Notice) => void = () => {};
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #said = "";

  /** Starts `program`, a file name beside this one. */
  constructor(program: string) {
    const file = fileURLToPath(new URL(program, import.meta.url));
    const execArgv = ["--conditions=@sluice/source", "--disable-warning=DeprecationWarning"];
    this.#process = fork(file, [], { execArgv, stdio: ["ignore", "pipe", "pipe", "ipc"] });
    living.add(this.#process);
    const listen = (chunk: Buffer): void => {
      this.#said = (this.#said + chunk.toString()).slice(-2_000);
    };
    this.#process.stdout?.on("data", listen);
    this.#process.stderr?.on("data", listen);
    this.#process.on("message", (message) => this.#hear(message as Answer | Notice));
    this.#process.on("exit", (code, signal) => this.#gone(`left with ${signal ?? `code ${code}`}`));
    this.#process.on("error", (error) => this.#gone(error.message));
  }

  /** Asks the child to do `operation`; rejects with its error, or after `timeoutMs`, which ends the child. */
  call<T = void>(operation: string, argument: unknown = null, timeoutMs = 60_000): Promise<T> {
    const id = ++this.#lastId;
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#process.kill("SIGKILL");
        this.#gone(`did not finish ${operation} within ${timeoutMs / 1000} s`);
      }, timeoutMs);
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject, timer });
      if (!this.#process.connected) this.#gone("is gone");
      else this.#process.send({ id, operation, argument });
    });
  }

  /** Ends the child: asks, and kills it when it does not leave in time. */
  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const left = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), leaveMs);
    await left;
    clearTimeout(timer);
  }

  #hear(message: Answer | Notice): void {
    if ("notice" in message) {
      this.onNotice(message);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) return;
    this.#waiting.delete(message.id);
    clearTimeout(waiting.timer);
    if (message.error === undefined) waiting.resolve(message.value);
    else waiting.reject(new Error(message.error));
  }

  #gone(reason: string): void {
    living.delete(this.#process);
    const said = this.#said.trim();
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new Error(said === "" ? `the child ${reason}` : `the child ${reason}; it said: ${said}`));
    }
    this.#waiting.clear();
  }
}
