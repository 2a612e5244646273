/** The main thread's side of one embedded engine, from its start to its end. */
import { Worker } from "node:worker_threads";
import { SluiceError } from "@sluice/core";
import type { ServerError } from "../database-errors.ts";
import {
  type EngineAnswer,
  type EngineReply,
  type EngineRequest,
  type EngineStart,
  flag,
  type Parameter,
} from "./protocol.ts";

/** Where the database of an engine lies, and how long it may hang. */
export interface EngineSettings {
  /** The data directory; undefined keeps the database in memory. */
  readonly directory: string | undefined;
  /** Whether the database has yet to be created. */
  readonly fresh: boolean;
  /** The database in words, for messages. */
  readonly target: string;
  /**
   * Milliseconds the engine may go on with a statement after its caller gave up at its deadline. A statement cannot
   * be interrupted, so past this the whole engine is ended, as by a crash.
   */
  readonly stuckMs: number;
}

/** What an engine reports by itself. */
export interface EngineEvents {
  onNotification(channel: string, payload: string): void;
  /** It ended without having been told to. Called once; every call in flight has been rejected with `error`. */
  onDeath(error: SluiceError): void;
}

/** A request on its way. */
export interface Asked {
  readonly id: number;
  /** Rejects with the server's error, or with `store_unavailable` if the engine ended first. */
  readonly answer: Promise<EngineAnswer>;
}

interface Outstanding {
  resolve(answer: EngineAnswer): void;
  reject(error: unknown): void;
}

// A fresh data directory, kept after the first one was created in memory: the next begin with a copy of it.
let template: Uint8Array<ArrayBuffer> | undefined;

/** The thread's file lies beside this one: as source when this is source, else as built. */
function workerUrl(): URL {
  return new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url);
}

interface PromiseWithEnds<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

// Promise.withResolvers, which Node 20 lacks.
function promiseWithEnds<T>(): PromiseWithEnds<T> {
  let ends: Omit<PromiseWithEnds<T>, "promise"> | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    ends = { resolve, reject };
  });
  return { promise, ...(ends as unknown as Omit<PromiseWithEnds<T>, "promise">) };
}

/** One PGlite in a thread of its own. Requests are answered in the order of asking. */
export class Engine {
  readonly #worker: Worker;
  readonly #settings: EngineSettings;
  readonly #events: EngineEvents;
  readonly #flags = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  // In the order of asking, so that the first key is the request that runs now.
  readonly #outstanding = new Map<number, Outstanding>();
  readonly #abandoned = new Set<number>();
  readonly #sentNames = new Set<string>();
  readonly #ready = promiseWithEnds<void>();
  #up = false;
  #stuckTimer: NodeJS.Timeout | undefined;
  #lastId = 0;
  #held = false;
  #ended: SluiceError | undefined;
  #reason: string | undefined;
  #startFailure: SluiceError | undefined;
  #stopping = false;

  /**
   * Starts an engine.
   * @throws SluiceError `invalid_option` if PGlite is not installed, `data_directory_unusable` if the database does
   *   not come up.
   */
  static async start(settings: EngineSettings, events: EngineEvents): Promise<Engine> {
    const engine = new Engine(settings, events);
    await engine.#ready.promise;
    engine.#updateRef();
    return engine;
  }

  private constructor(settings: EngineSettings, events: EngineEvents) {
    this.#settings = settings;
    this.#events = events;
    const workerData: EngineStart = {
      directory: settings.directory,
      template: settings.fresh ? template : undefined,
      flags: this.#flags.buffer as SharedArrayBuffer,
    };
    // No flags of this process: a loader or a debugger meant for the application has no business in there.
    this.#worker = new Worker(workerUrl(), { workerData, execArgv: [], name: "sluice-embedded" });
    this.#worker.on("message", (reply: EngineReply) => this.#take(reply));
    this.#worker.on("error", (error) => {
      this.#reason ??= error.message;
    });
    // Only now is it certain that nothing is written any more, and that another engine may be started.
    this.#worker.on("exit", () => this.#die(this.#reason ?? "the thread ended"));
  }

  /** Runs a prepared statement. */
  statement(name: string, text: string, values: readonly Parameter[]): Asked {
    const first = !this.#sentNames.has(name);
    this.#sentNames.add(name);
    const id = this.#nextId();
    return this.#ask({ kind: "statement", id, name, text: first ? text : undefined, values });
  }

  /** Runs statements as the simple protocol does: without BEGIN among them, as one transaction. */
  script(sql: string): Asked {
    return this.#ask({ kind: "script", id: this.#nextId(), sql });
  }

  /** Says that nobody waits for the answer any more. */
  abandon(id: number): void {
    if (!this.#outstanding.has(id)) return;
    this.#abandoned.add(id);
    this.#stuckTimer ??= setTimeout(() => this.#judge(), this.#settings.stuckMs).unref();
  }

  /** Whether the engine keeps the process alive even when nothing is on its way. */
  hold(held: boolean): void {
    this.#held = held;
    this.#updateRef();
  }

  /** Shuts down in order: a last checkpoint, so that the next start has nothing to recover. */
  async stop(): Promise<void> {
    if (this.#ended !== undefined) return;
    this.#stopping = true;
    const exited = new Promise((resolve) => this.#worker.once("exit", resolve));
    const { answer } = this.#ask({ kind: "stop", id: this.#nextId() });
    const timer = setTimeout(() => void this.#worker.terminate(), this.#settings.stuckMs);
    await Promise.allSettled([answer, exited]);
    clearTimeout(timer);
  }

  /**
   * For the exit of the process: lets the running statement end and starts no other, without returning to the event
   * loop. False if it does not end within `waitMs`.
   */
  freeze(waitMs: number): boolean {
    Atomics.store(this.#flags, flag.stop, 1);
    Atomics.wait(this.#flags, flag.busy, 1, waitMs);
    return Atomics.load(this.#flags, flag.busy) === 0;
  }

  /** Ends the engine at once, as a crash would. Resolves when the thread is gone and writes no more. */
  async kill(reason: string): Promise<void> {
    this.#reason ??= reason;
    await this.#worker.terminate();
  }

  #unable(reason: "not-installed" | "failed", message: string): SluiceError {
    if (reason === "not-installed") {
      const text = `embedded(): needs the package @electric-sql/pglite: npm install @electric-sql/pglite@0.5.16 (${message})`;
      return new SluiceError("invalid_option", text);
    }
    const { directory, target } = this.#settings;
    const code = directory === undefined ? "store_unavailable" : "data_directory_unusable";
    return new SluiceError(code, `${target}: the engine cannot start: ${message}`);
  }

  #nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  #ask(request: EngineRequest): Asked {
    const { id } = request;
    if (this.#ended !== undefined) return { id, answer: Promise.reject(this.#ended) };
    const answer = new Promise<EngineAnswer>((resolve, reject) => {
      this.#outstanding.set(id, { resolve, reject });
    });
    if (this.#outstanding.size === 1) this.#updateRef();
    this.#worker.postMessage(request);
    return { id, answer };
  }

  #take(reply: EngineReply): void {
    switch (reply.kind) {
      case "answer":
        this.#settle(reply.id)?.resolve(reply);
        break;
      case "error":
        this.#settle(reply.id)?.reject(reply.error satisfies ServerError);
        break;
      case "notification":
        this.#events.onNotification(reply.channel, reply.payload);
        break;
      case "ready":
        template ??= reply.template;
        this.#up = true;
        this.#ready.resolve();
        break;
      case "unable":
        this.#startFailure = this.#unable(reply.reason, reply.message);
        // What could not start may still hold something open.
        void this.kill(reply.message);
        break;
      case "broken":
        void this.kill(reply.message);
        break;
    }
  }

  #settle(id: number): Outstanding | undefined {
    const outstanding = this.#outstanding.get(id);
    this.#outstanding.delete(id);
    this.#abandoned.delete(id);
    if (this.#outstanding.size === 0) this.#updateRef();
    return outstanding;
  }

  #judge(): void {
    this.#stuckTimer = undefined;
    // A caller that gave up while its request waited behind another's long statement is no sign of a hanging engine.
    const running = this.#outstanding.keys().next().value;
    if (running !== undefined && this.#abandoned.has(running)) {
      void this.kill("a statement did not end after its deadline");
    } else if (this.#abandoned.size > 0) {
      this.#stuckTimer = setTimeout(() => this.#judge(), this.#settings.stuckMs).unref();
    }
  }

  #die(reason: string): void {
    if (this.#ended !== undefined) return;
    const error = new SluiceError(
      "store_unavailable",
      `${this.#settings.target}: the engine ended: ${reason}`,
    );
    this.#ended = error;
    clearTimeout(this.#stuckTimer);
    for (const { reject } of this.#outstanding.values()) reject(error);
    this.#outstanding.clear();
    this.#ready.reject(this.#startFailure ?? this.#unable("failed", reason));
    if (this.#up && !this.#stopping) this.#events.onDeath(error);
  }

  #updateRef(): void {
    if (this.#held || this.#outstanding.size > 0) this.#worker.ref();
    else this.#worker.unref();
  }
}
