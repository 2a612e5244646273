/** Sets of time intervals, and binary search: what makes every check O(n log n). */
import type { Span } from "./history.ts";

/** Disjoint spans in order, with the length covered before each, so that covered length is two searches. */
export class SpanSet {
  readonly spans: readonly Span[];
  readonly #before: readonly number[];

  constructor(spans: Iterable<Span>, joinWithinUs = 0) {
    this.spans = merge(spans, joinWithinUs);
    let sum = 0;
    this.#before = this.spans.map((span) => {
      const before = sum;
      sum += span.to - span.from;
      return before;
    });
  }

  /** Length covered in [from, to]. */
  coveredIn(from: number, to: number): number {
    return to <= from ? 0 : this.#coveredTo(to) - this.#coveredTo(from);
  }

  /** Length of [from, to] that is not covered. */
  uncoveredIn(from: number, to: number): number {
    return Math.max(0, to - from - this.coveredIn(from, to));
  }

  #coveredTo(time: number): number {
    const index = countWhere(this.spans, (span) => span.from < time) - 1;
    const span = this.spans[index];
    if (span === undefined) return 0;
    return (this.#before[index] as number) + Math.min(time, span.to) - span.from;
  }
}

/** Sorts and joins spans that overlap or lie no further apart than `joinWithinUs`. */
export function merge(spans: Iterable<Span>, joinWithinUs = 0): Span[] {
  const sorted = [...spans].filter((span) => span.to > span.from).sort((a, b) => a.from - b.from);
  const merged: { from: number; to: number }[] = [];
  for (const span of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && span.from <= last.to + joinWithinUs) last.to = Math.max(last.to, span.to);
    else merged.push({ from: span.from, to: span.to });
  }
  return merged;
}

/** How many leading elements satisfy `holds`, for a list in which those that do stand first. */
export function countWhere<T>(list: readonly T[], holds: (element: T) => boolean): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(list[middle] as T)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Groups in order of first appearance. */
export function groupBy<T>(list: Iterable<T>, keyOf: (element: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const element of list) {
    const key = keyOf(element);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [element]);
    else group.push(element);
  }
  return groups;
}

/** Microseconds as milliseconds for people. */
export function inMs(us: number): string {
  return `${(us / 1000).toFixed(us < 100_000 ? 2 : 0)} ms`;
}
