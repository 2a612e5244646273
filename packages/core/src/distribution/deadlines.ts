import type { Clock, Timer } from "../base/clock.ts";

/** Something that must be over by a deadline. */
export interface Deadline {
  /** Set when it is over; its deadline passes without effect then. */
  isOver: boolean;
  readonly dueUs: number;
  /** Called when the deadline passes before it was over. */
  readonly onMissed: () => void;
}

/**
 * Deadlines that are all equally far away, so that they fall due in the order they were set: one timer serves all of them, which
 * costs a fraction of a timer each at hundreds of thousands of calls a second.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #afterUs: number;
  /** A ring would save the copying below; it is one copy of a pointer for each deadline. */
  #pending: Deadline[] = [];
  #first = 0;
  #timer: Timer | undefined;

  constructor(clock: Clock, afterUs: number) {
    this.#clock = clock;
    this.#afterUs = afterUs;
  }

  /** Sets a deadline from now. */
  set(onMissed: () => void): Deadline {
    const deadline = { isOver: false, dueUs: this.#clock.nowUs() + this.#afterUs, onMissed };
    this.#pending.push(deadline);
    this.#timer ??= this.#clock.setTimer(() => this.#fire(), this.#afterUs);
    return deadline;
  }

  #fire(): void {
    this.#timer = undefined;
    const nowUs = this.#clock.nowUs();
    const missed: Deadline[] = [];
    let next = this.#pending[this.#first];
    while (next !== undefined && (next.isOver || next.dueUs <= nowUs)) {
      if (!next.isOver) missed.push(next);
      next = this.#pending[++this.#first];
    }
    this.#pending = this.#pending.slice(this.#first);
    this.#first = 0;
    if (next !== undefined) this.#timer = this.#clock.setTimer(() => this.#fire(), next.dueUs - nowUs);
    for (const deadline of missed) {
      // One that is called may end others.
      if (deadline.isOver) continue;
      deadline.isOver = true;
      deadline.onMissed();
    }
  }
}
