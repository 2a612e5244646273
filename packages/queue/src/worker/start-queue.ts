import type { Grant } from "../store/task-store.ts";
import type { LocalSpan } from "./store-clock.ts";

/** A grant with its start and end on the local clock. */
export interface TimedGrant {
  readonly grant: Grant;
  readonly span: LocalSpan;
  /** Grants of the same serial lane, to be run after this one in the same slot. */
  readonly followers?: readonly TimedGrant[];
}

/** Grants by start time, earliest first; those of one start time in the order they came. */
export class StartQueue {
  #items: TimedGrant[] = [];

  get size(): number {
    return this.#items.length;
  }

  /** When the earliest may start; undefined when there is none. */
  get nextUs(): number | undefined {
    return this.#items[0]?.span.fromUs;
  }

  add(item: TimedGrant): void {
    // Grants come in almost sorted: looking from the end finds the place at once.
    let place = this.#items.length;
    while (place > 0 && this.#items[place - 1]!.span.fromUs > item.span.fromUs) place--;
    this.#items.splice(place, 0, item);
  }

  /** Removes and returns those whose time has come. */
  takeDue(nowUs: number): TimedGrant[] {
    let count = 0;
    while (count < this.#items.length && this.#items[count]!.span.fromUs <= nowUs) count++;
    return this.#items.splice(0, count);
  }

  /** Removes and returns those of one task. */
  remove(taskId: string): TimedGrant[] {
    const place = this.#items.findIndex((item) => item.grant.taskId === taskId);
    return place < 0 ? [] : this.#items.splice(place, 1);
  }

  takeAll(): TimedGrant[] {
    return this.#items.splice(0);
  }
}
