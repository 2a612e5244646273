/**
 * How many of `starts` lie in one half-open window of `periodUs` at most: naive on purpose, each start is taken as the end of
 * a window and everything within it is counted.
 */
export function mostInAnyWindow(starts: readonly number[], periodUs: number): number {
  const sorted = [...starts].sort((a, b) => a - b);
  return sorted.reduce((most, end, i) => {
    let count = 0;
    for (let j = i; j >= 0 && sorted[j]! > end - periodUs; j--) count++;
    return Math.max(most, count);
  }, 0);
}

/** Jain's index of fairness: 1 when all have the same, 1/n when one has everything. */
export function jainIndex(shares: readonly number[]): number {
  const sum = shares.reduce((a, b) => a + b, 0);
  const squares = shares.reduce((a, b) => a + b * b, 0);
  return sum ** 2 / (shares.length * squares);
}
