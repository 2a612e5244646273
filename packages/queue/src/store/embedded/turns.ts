/**
 * Who may talk to the engine, and when. PGlite is one session, so a transaction must have it alone; everything else
 * goes out in the order in which it came. The engine answers in the order of asking, therefore nobody waits for the
 * answer of the one before: only for a transaction that is open, and for room in the window.
 */
import { deadlinePassed, type FailurePlace } from "../database-errors.ts";
import type { Engine } from "./engine.ts";

/**
 * Requests on their way to the engine at once. Enough to keep its thread busy between two ticks of this one; the rest
 * waits here, where a call whose deadline passes is withdrawn and surely never runs.
 */
const windowSize = 64;

/** One that waits for its turn. */
interface Entry {
  begin(engine: Engine): void;
  refuse(error: unknown): void;
}

/** The turn of a transaction. */
export interface ExclusiveTurn {
  readonly engine: Engine;
  /** Lets the others go on. Idempotent. */
  end(): void;
}

/** The line before the engine. */
export class Turns {
  readonly #waiting: Entry[] = [];
  readonly #needEngine: () => void;
  #engine: Engine | undefined;
  #running = 0;
  #exclusive: ExclusiveTurn | undefined;
  #whenIdle: (() => void) | undefined;

  /** @param needEngine Called when someone waits and there is no engine; to be answered by `open` or `refuseAll`. */
  constructor(needEngine: () => void) {
    this.#needEngine = needEngine;
  }

  /** Whether someone waits. */
  get wanted(): boolean {
    return this.#waiting.length > 0;
  }

  /** Calls `begin` when it is this one's turn. The function returned withdraws it; false if it has begun. */
  enter(begin: (engine: Engine) => Promise<unknown>, refuse: (error: unknown) => void): () => boolean {
    const leave = (): void => {
      this.#running -= 1;
      this.#advance();
    };
    return this.#join({
      begin: (engine) => {
        this.#running += 1;
        begin(engine).then(leave, leave);
      },
      refuse,
    });
  }

  /** Waits for a turn of its own. Rejects with `store_timeout` after `deadlineMs`; then it never comes. */
  enterAlone(place: FailurePlace, deadlineMs: number): Promise<ExclusiveTurn> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        if (withdraw()) reject(deadlinePassed(place, deadlineMs, "its turn did not come, and it never ran"));
      }, deadlineMs);
      const withdraw = this.#join({
        begin: (engine) => {
          clearTimeout(timer);
          const turn: ExclusiveTurn = { engine, end: () => this.#endExclusive(turn) };
          this.#exclusive = turn;
          resolve(turn);
        },
        refuse: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  /** There is an engine: go on. */
  open(engine: Engine): void {
    this.#engine = engine;
    this.#advance();
  }

  /** The engine is gone, and with it what it was doing. Those who wait go on waiting for the next. */
  shut(): void {
    this.#engine = undefined;
    this.#exclusive = undefined;
    this.#advance();
  }

  /** There will be no engine for those who wait. */
  refuseAll(error: unknown): void {
    for (const entry of this.#waiting.splice(0)) entry.refuse(error);
    this.#checkIdle();
  }

  /** Resolves when nobody waits and nothing runs. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#whenIdle = resolve;
      this.#checkIdle();
    });
  }

  #join(entry: Entry): () => boolean {
    this.#waiting.push(entry);
    this.#advance();
    return () => {
      const index = this.#waiting.indexOf(entry);
      if (index >= 0) this.#waiting.splice(index, 1);
      this.#checkIdle();
      return index >= 0;
    };
  }

  #endExclusive(turn: ExclusiveTurn): void {
    if (this.#exclusive !== turn) return;
    this.#exclusive = undefined;
    this.#advance();
  }

  #advance(): void {
    while (this.#waiting.length > 0 && this.#exclusive === undefined && this.#running < windowSize) {
      if (this.#engine === undefined) {
        this.#needEngine();
        return;
      }
      (this.#waiting.shift() as Entry).begin(this.#engine);
    }
    this.#checkIdle();
  }

  #checkIdle(): void {
    if (this.#waiting.length > 0 || this.#running > 0 || this.#exclusive !== undefined) return;
    this.#whenIdle?.();
    this.#whenIdle = undefined;
  }
}
