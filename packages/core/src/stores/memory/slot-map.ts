/** How many keys a single Map holds before they are spread over several. */
const singleMax = 8_192;
/** A power of two. */
const mapCount = 64;

/**
 * A map from keys to slots that never stops the process for long. A `Map` that doubles copies all it holds at once, which at a
 * million keys takes more than 100 ms; spread over 64 of them, each copies its own part in a few.
 */
export class SlotMap {
  #single: Map<string, number> | undefined = new Map();
  #maps: readonly Map<string, number>[] = [];

  get(key: string): number | undefined {
    return this.#of(key).get(key);
  }

  has(key: string): boolean {
    return this.#of(key).has(key);
  }

  set(key: string, slot: number): void {
    if (this.#single !== undefined && this.#single.size >= singleMax) this.#spread(this.#single);
    this.#of(key).set(key, slot);
  }

  delete(key: string): void {
    this.#of(key).delete(key);
  }

  clear(): void {
    this.#single = new Map();
    this.#maps = [];
  }

  #of(key: string): Map<string, number> {
    return this.#single ?? this.#maps[indexOf(key)]!;
  }

  #spread(single: Map<string, number>): void {
    this.#maps = Array.from({ length: mapCount }, () => new Map<string, number>());
    this.#single = undefined;
    for (const [key, slot] of single) this.#of(key).set(key, slot);
  }
}

/**
 * Which of the maps: by the last three characters, where keys mostly differ, weighted so that numbers at the end of a key fall
 * evenly. Whoever chooses keys to fall into one of them gets what a single `Map` would be.
 */
function indexOf(key: string): number {
  const { length } = key;
  const last = key.charCodeAt(length - 1) | 0;
  return (
    (last + 10 * (key.charCodeAt(length - 2) | 0) + 100 * (key.charCodeAt(length - 3) | 0)) & (mapCount - 1)
  );
}
