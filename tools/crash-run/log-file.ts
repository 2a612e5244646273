/**
 * A log outside the database: JSON lines, appended in one write each, so that a SIGKILL loses no line that was written
 * (the page cache outlives the process) and at most cuts the last one short. Formats: tools/check-history/README.md.
 */
import { closeSync, openSync, writeSync } from "node:fs";

/** CLOCK_MONOTONIC in microseconds: comparable between the processes of one machine. */
export function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** The wall clock in microseconds, read at an edge of its millisecond, with the monotonic instant of that edge. */
export function wallClock(): { mono: number; wall: number } {
  const before = Date.now();
  let wall = before;
  while (wall === before) wall = Date.now();
  return { mono: monotonicUs(), wall: wall * 1000 };
}

/** An append-only log of one process. */
export class LogFile {
  readonly #file: number;
  readonly #common: Readonly<Record<string, unknown>>;

  /** `common` is part of every line. */
  constructor(path: string, common: Readonly<Record<string, unknown>> = {}) {
    this.#file = openSync(path, "a");
    this.#common = common;
  }

  /** Appends a line; `mono` is now unless given. */
  write(line: Readonly<Record<string, unknown>>): void {
    writeSync(this.#file, `${JSON.stringify({ ...this.#common, mono: monotonicUs(), ...line })}\n`);
  }

  close(): void {
    closeSync(this.#file);
  }
}
