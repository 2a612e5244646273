/**
 * How many handlers a worker runs at once, shared by its queues. Who finds no free slot waits in line; the line is
 * served in order, one slot a turn, so that a busy queue cannot starve the others.
 */
export class Slots {
  readonly capacity: number;
  #used = 0;
  readonly #line = new Set<() => void>();

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get free(): number {
    return this.capacity - this.#used;
  }

  get used(): number {
    return this.#used;
  }

  /** Takes up to `count` slots and returns how many it got. */
  take(count: number): number {
    const taken = Math.max(0, Math.min(count, this.free));
    this.#used += taken;
    return taken;
  }

  /** Gives slots back and serves the line. */
  release(count: number): void {
    this.#used -= count;
    // Who is served may join the line again: only those who stand in it now have a turn. And what they do may release more
    // slots, which serves the line from within: who was served there has left it.
    for (const next of [...this.#line]) {
      if (this.free <= 0) return;
      if (this.#line.delete(next)) next();
    }
  }

  /** Calls `serve` once when there is a free slot. Joining again keeps the place. */
  join(serve: () => void): void {
    this.#line.add(serve);
  }

  leave(serve: () => void): void {
    this.#line.delete(serve);
  }
}
