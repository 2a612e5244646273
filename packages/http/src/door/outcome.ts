import type { Decision } from "@sluice/core";
import type { Problem } from "../codec/problem.ts";
import type { Header } from "../codec/rate-limit-fields.ts";
import type { DoorRequest } from "../keys/door-request.ts";

/** What the door says of one request. */
export interface Outcome {
  /** Headers to set on the answer, whatever it is. */
  readonly headers: readonly Header[];
  /** The answer to give instead of the handler's; undefined lets the request pass. */
  readonly refusal: Refusal | undefined;
  /** What each limit that concerned the request decided, those in dry run last. */
  readonly decisions: readonly Decision[];
  /**
   * To be called once the request was answered, by whoever called the door: limits with the option `settle` then correct
   * what they debited. Undefined when there are none. Never rejects.
   */
  readonly settle: ((answer: Answered) => Promise<void>) | undefined;
}

/** How a request was answered, by the door or behind it. */
export interface Answered {
  readonly status: number;
  /** Whether the client left before it had the whole answer. */
  readonly aborted: boolean;
}

/** An answer in place of the handler's. Its headers come on top of those of the outcome. */
export interface Refusal {
  readonly status: number;
  readonly headers: readonly Header[];
  readonly body: string;
  readonly problem: Problem;
}

/** A refusal, for whoever listens. */
export interface Denial {
  readonly request: DoorRequest;
  /** The decisions that refused, of limits in dry run too. */
  readonly decisions: readonly Decision[];
  /** Whether the request passed all the same, because every limit that refused it is in dry run. */
  readonly dryRun: boolean;
  /** What the client is answered; undefined in dry run. */
  readonly problem: Problem | undefined;
}
