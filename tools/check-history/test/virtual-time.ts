/** Seeded randomness and a virtual clock: the floor under the simulator. */

/** Mulberry32: small, seeded, good enough to choose faults and delays. Uniform in [0, 1). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

interface Event {
  readonly time: number;
  readonly order: number;
  readonly run: () => void;
}

/** A clock that jumps from event to event; events at one instant run in the order they were asked for. */
export class VirtualTime {
  /** Microseconds. */
  now = 1_000_000;
  readonly #heap: Event[] = [];
  #order = 0;

  at(time: number, run: () => void): void {
    const heap = this.#heap;
    heap.push({ time: Math.max(time, this.now), order: this.#order++, run });
    for (let child = heap.length - 1; child > 0; ) {
      const parent = (child - 1) >> 1;
      if (!before(heap[child] as Event, heap[parent] as Event)) break;
      [heap[child], heap[parent]] = [heap[parent] as Event, heap[child] as Event];
      child = parent;
    }
  }

  /** Runs events until none is left, `done` says so, or the clock reaches `end`. */
  runUntil(end: number, done: () => boolean): void {
    for (let event = this.#pop(); event !== undefined; event = this.#pop()) {
      if (event.time > end) return;
      this.now = event.time;
      event.run();
      if (done()) return;
    }
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    heap[0] = last;
    for (let parent = 0; ; ) {
      let least = parent;
      for (const child of [2 * parent + 1, 2 * parent + 2])
        if (child < heap.length && before(heap[child] as Event, heap[least] as Event)) least = child;
      if (least === parent) return top;
      [heap[parent], heap[least]] = [heap[least] as Event, heap[parent] as Event];
      parent = least;
    }
  }
}

function before(a: Event, b: Event): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}
