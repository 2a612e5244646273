/** The value below which the fraction `p` (0 to 1) of the values lies, by nearest rank. NaN of nothing. */
export function percentile(values: readonly number[], p: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = Float64Array.from(values).sort();
  const rank = Math.ceil(p * sorted.length) - 1;
  return sorted[Math.min(sorted.length - 1, Math.max(0, rank))] as number;
}

/** The middle value: the lower of the two middle ones if their number is even, so that it was really measured. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}
