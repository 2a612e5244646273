/**
 * A block: nothing is admitted on a key before an instant, whatever its budget. It is how an answer of 429 stops everybody who
 * shares the key.
 *
 * A clock that steps back by up to the block's own length lengthens it by as much. After a larger step it holds for its length
 * from now: a block is never lengthened by more than its own length.
 */
import type { Verdict } from "./verdict.ts";

/** A block in force, or one that has ended. */
export interface Block {
  readonly untilUs: number;
  /** How long it was to hold when it was set, in microseconds. */
  readonly forUs: number;
}

/** The longest block: 24 hours. */
export const blockUsMax: number = 86_400_000_000;

/** The block as of `nowUs`: undefined when it is over, set right when the clock has stepped back far. */
export function blockAt(block: Block | undefined, nowUs: number): Block | undefined {
  if (block === undefined || block.untilUs <= nowUs) return undefined;
  if (block.untilUs - nowUs <= 2 * block.forUs) return block;
  return { untilUs: nowUs + block.forUs, forUs: block.forUs };
}

/** The block after another one of `forUs` from now: the later end holds, and 0 lifts it. */
export function blockFor(block: Block | undefined, nowUs: number, forUs: number): Block | undefined {
  if (forUs === 0) return undefined;
  const current = blockAt(block, nowUs);
  const length = Math.min(forUs, blockUsMax);
  return current !== undefined && current.untilUs >= nowUs + length
    ? current
    : { untilUs: nowUs + length, forUs: length };
}

/**
 * What a blocked key answers.
 * @param verdict What its algorithm would answer, of a peek.
 */
export function blockedVerdict(verdict: Verdict, nowUs: number, block: Block): Verdict {
  return {
    ...verdict,
    allowed: false,
    remaining: 0,
    retryAfterUs: Math.max(block.untilUs - nowUs, verdict.retryAfterUs),
    resetAtUs: Math.max(block.untilUs, verdict.resetAtUs),
  };
}
