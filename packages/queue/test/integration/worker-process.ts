import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach } from "vitest";
import { gate, until } from "../gate.ts";
import type { WorkerLine, WorkerOrder } from "./worker-program.ts";

type Start = Extract<WorkerLine, { kind: "start" }>;

/** A worker in a process of its own, and what it has told so far. */
export class WorkerProcess {
  readonly lines: WorkerLine[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #stderr = "";

  constructor(order: WorkerOrder) {
    const program = join(import.meta.dirname, "worker-program.ts");
    this.#child = spawn(process.execPath, ["--conditions=@sluice/source", program, JSON.stringify(order)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    createInterface({ input: this.#child.stdout! }).on("line", (line) =>
      this.lines.push(JSON.parse(line) as WorkerLine),
    );
    this.#child.stderr!.on("data", (chunk: Buffer) => {
      this.#stderr += chunk.toString();
    });
    const ended = gate();
    this.#child.once("close", () => ended.open());
    this.#ended = ended.opened;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get stderr(): string {
    return this.#stderr;
  }

  get starts(): Start[] {
    return this.lines.filter((line): line is Start => line.kind === "start");
  }

  count(kind: WorkerLine["kind"]): number {
    return this.lines.filter((line) => line.kind === kind).length;
  }

  async ready(): Promise<this> {
    await until(
      `a worker is ready; it says ${this.#stderr}`,
      () => this.count("ready") === 1 || !this.alive,
      30_000,
    );
    if (!this.alive) throw new Error(`a worker process ended: ${this.#stderr}`);
    return this;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async end(name: NodeJS.Signals): Promise<void> {
    if (this.alive) this.#child.kill(name);
    await this.#ended;
  }
}

/** Starts worker processes that are ended after each test. Call it at the top level of a file. */
export function workerProcesses(): (order: WorkerOrder, count?: number) => Promise<WorkerProcess[]> {
  const started: WorkerProcess[] = [];
  afterEach(async () => {
    await Promise.all(started.splice(0).map((worker) => worker.end("SIGKILL")));
  });
  return (order, count = 1) => {
    const workers = Array.from({ length: count }, () => new WorkerProcess(order));
    started.push(...workers);
    return Promise.all(workers.map((worker) => worker.ready()));
  };
}
