/**
 * Microseconds on this machine's monotonic clock, with fraction. `process.hrtime` reads a clock that all processes
 * of one machine share (CLOCK_MONOTONIC), so instants taken in different processes can be compared; they have no
 * relation to the time of day, and no adjustment of it moves them.
 */
export function monotonicUs(): number {
  return Number(process.hrtime.bigint()) / 1000;
}

/** Resolves after `ms` milliseconds, at least one turn of the event loop later. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
