import { type Clock, isSluiceError, SluiceError, type Timer } from "@sluice/core";
import { Steps } from "../step/steps.ts";
import { ending, type Grant, type Settlement } from "../store/task-store.ts";
import { type Backoff, backoffMs } from "../task/backoff.ts";
import { describeFailure, type TaskError } from "../task/failure.ts";
import { decodePayload, encodePayload } from "../task/payload.ts";
import type { AttemptRef } from "./events.ts";
import type { AttemptServices, TaskContext, TaskDeclaration } from "./task-handler.ts";

/** What an attempt came to. */
export interface AttemptEnd {
  readonly settlement: Settlement;
  /** Set when it failed. */
  readonly error?: TaskError;
  readonly retryInMs?: number;
}

/** How failures of a queue's tasks are spaced, and the source of chance for their jitter. */
export interface RetryPolicy {
  readonly backoff: Backoff;
  readonly chance: () => number;
}

/** One run of one task: calls its handler, aborts it when told, and says how it ended. Never rejects. */
export class Attempt {
  readonly ref: AttemptRef;
  readonly grant: Grant;
  readonly #services: AttemptServices;
  #controller: AbortController | undefined;
  #cancelled = false;
  #dropped = false;

  constructor(queue: string, grant: Grant, services: AttemptServices) {
    this.grant = grant;
    this.#services = services;
    this.ref = {
      id: grant.taskId,
      queue,
      partition: grant.partition,
      name: grant.name,
      attempt: grant.attempt,
      fence: grant.fence,
    };
  }

  /** True once the attempt's lease is gone: its end is nobody's business. */
  get dropped(): boolean {
    return this.#dropped;
  }

  /** Asks the handler to stop because the task was cancelled. If it succeeds all the same, it has succeeded. */
  cancel(): void {
    this.#cancelled = true;
    this.#abort(new SluiceError("task_cancelled", `task ${this.ref.id} was cancelled`));
  }

  /** Tells the handler that its lease is gone. */
  drop(reason: SluiceError): void {
    this.#dropped = true;
    this.#abort(reason);
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  #abort(reason: SluiceError): void {
    this.#controller ??= new AbortController();
    this.#controller.abort(reason);
  }

  async run(declaration: TaskDeclaration, retry: RetryPolicy, clock: Clock): Promise<AttemptEnd> {
    let timer: Timer | undefined;
    try {
      const handler = declaration.handler as (input: unknown, ctx: TaskContext) => unknown;
      let running = handler(decodePayload(this.grant.input), this.#context());
      if (declaration.timeoutMs !== undefined && running instanceof Promise) {
        running = Promise.race([
          running,
          new Promise((_, reject) => {
            timer = clock.setTimer(
              () => reject(this.#timeOut(declaration.timeoutMs!)),
              declaration.timeoutMs! * 1000,
            );
          }),
        ]);
      }
      const result = encodePayload(`task ${this.ref.name}`, "result", await running);
      return { settlement: this.#settle(ending.succeeded, result, 0) };
    } catch (thrown) {
      return this.#failed(thrown, declaration.backoff ?? retry.backoff, retry.chance());
    } finally {
      timer?.cancel();
    }
  }

  #timeOut(timeoutMs: number): SluiceError {
    const error = new SluiceError("timeout", `task ${this.ref.name} ran longer than its ${timeoutMs} ms`);
    this.#abort(error);
    return error;
  }

  #failed(thrown: unknown, backoff: Backoff, chance: number): AttemptEnd {
    const error = describeFailure(thrown);
    const body = JSON.stringify(error);
    if (this.#cancelled) return { settlement: this.#settle(ending.cancelled, body, 0), error };
    const failures = this.grant.failures + 1;
    if (failures >= this.grant.maxAttempts || !mayRetry(thrown)) {
      return { settlement: this.#settle(ending.dead, body, 0), error };
    }
    const retryInMs = backoffMs(backoff, failures, chance);
    return { settlement: this.#settle(ending.retry, body, Math.round(retryInMs * 1000)), error, retryInMs };
  }

  #settle(kind: Settlement["kind"], body: string | null, delayUs: number): Settlement {
    const { taskId, fence, lane } = this.grant;
    return { taskId, fence, lane, kind, body, delayUs };
  }

  #context(): TaskContext {
    return new AttemptContext(this, this.#services);
  }
}

/** An error that says of itself that trying again is of no use, as a result that can never be stored does. */
function mayRetry(thrown: unknown): boolean {
  try {
    if (isSluiceError(thrown)) return !finalFamilies.has(thrown.family);
    return !(
      typeof thrown === "object" &&
      thrown !== null &&
      (thrown as { retryable?: unknown }).retryable === false
    );
  } catch {
    return true;
  }
}

/** Of our own errors, those that the same code with the same data runs into again. */
const finalFamilies: ReadonlySet<string> = new Set(["config", "input", "handler"]);

/** The context handed to a handler. Built for every attempt, so it costs nothing until it is used. */
class AttemptContext implements TaskContext {
  readonly #attempt: Attempt;
  readonly #services: AttemptServices;
  #steps: Steps | undefined;
  #children = 0;

  constructor(attempt: Attempt, services: AttemptServices) {
    this.#attempt = attempt;
    this.#services = services;
  }

  get id(): string {
    return this.#attempt.ref.id;
  }
  get queue(): string {
    return this.#attempt.ref.queue;
  }
  get partition(): string {
    return this.#attempt.ref.partition;
  }
  get task(): string {
    return this.#attempt.ref.name;
  }
  get attempt(): number {
    return this.#attempt.ref.attempt;
  }
  get fence(): number {
    return this.#attempt.ref.fence;
  }
  get startAtUs(): number {
    return this.#attempt.grant.startUs;
  }
  get signal(): AbortSignal {
    return this.#attempt.signal;
  }

  // Getters, so that handlers may take the functions apart from the context.
  get step(): TaskContext["step"] {
    return (name, fn) => {
      this.#steps ??= this.#openSteps();
      return this.#steps.run(name, fn);
    };
  }
  get progress(): TaskContext["progress"] {
    return (value) => this.#progress(value);
  }
  get enqueue(): TaskContext["enqueue"] {
    return (queue, task, input, options = {}) => {
      const index = this.#children++;
      return this.#services.enqueueChild({ parent: this.id, index, queue, task, input, options });
    };
  }
  get log(): TaskContext["log"] {
    return (message, fields) => this.#services.log(this.#attempt.ref, message, fields);
  }

  #openSteps(): Steps {
    const { id, fence, attempt, task } = this;
    const records = {
      list: () => this.#services.stepList(id),
      record: (name: string, result: string | null) => this.#services.stepRecord(id, fence, name, result),
    };
    return new Steps(`task ${task}`, records, attempt === 1, () => this.signal);
  }

  async #progress(value: unknown): Promise<void> {
    const text = encodePayload(`task ${this.task}`, "progress", value) ?? "null";
    if (!(await this.#services.taskProgress(this.id, this.fence, text))) {
      throw new SluiceError(
        "lease_lost",
        `task ${this.task}: the lease was lost before its progress could be kept`,
      );
    }
  }
}
