import { Emitter } from "../base/emitter.ts";
import type { Decision } from "./decision.ts";

/** A caller that has begun to wait in `acquire`. */
export interface WaitEvent {
  readonly limit: string;
  readonly key: string;
  readonly cost: number;
  /** How long it will take at the least, in milliseconds; exact when nobody else asks and everybody ahead costs 1. */
  readonly waitMs: number;
}

/** What a limit tells those who listen, for metrics and logs. */
export interface LimitEvents {
  /** Every answer to a caller, allowed or not, but those of `peek`. */
  readonly decision: Decision;
  readonly wait: WaitEvent;
}

/** The events of one limit: nothing at all until somebody listens. */
export class LimitSignals {
  #emitter: Emitter<LimitEvents> | undefined;

  on<Name extends keyof LimitEvents>(name: Name, listener: (event: LimitEvents[Name]) => void): () => void {
    this.#emitter ??= new Emitter<LimitEvents>();
    return this.#emitter.on(name, listener);
  }

  /** Whether anybody has ever listened. */
  get isHeard(): boolean {
    return this.#emitter !== undefined;
  }

  /** Tells of a decision, and hands it on. */
  decided<Answer extends Decision>(decision: Answer): Answer {
    this.#emitter?.emit("decision", decision);
    return decision;
  }

  /** What a line calls when a caller begins to wait; undefined when nobody listens. */
  waiting(limit: string, key: string, cost: number): ((waitUs: number) => void) | undefined {
    const emitter = this.#emitter;
    if (emitter?.has("wait") !== true) return undefined;
    return (waitUs) => void emitter.emit("wait", { limit, key, cost, waitMs: waitUs / 1000 });
  }
}
