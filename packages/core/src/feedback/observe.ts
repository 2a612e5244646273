import { type Feedback, type FeedbackOptions, readFeedback } from "./read-feedback.ts";

/** What {@link observe} needs of a limit: that it, or one key of it, can be blocked. */
export interface Blockable {
  /** Admits nothing for `forMs` milliseconds from now, whatever the budget. */
  block(forMs: number): void | PromiseLike<void>;
}

/**
 * Reads what a server answered and, if it says to stay away, blocks the limit for as long: with a shared store the whole
 * fleet, and of a keyed limit only the key, since `limit.for(key)` is what is handed in. Callers that wait in `acquire` go on
 * waiting; the later of two blocks holds.
 *
 * @returns What was read, with `blockForMs` if it blocked; undefined when the answer says nothing.
 * @throws What the store throws when it cannot be reached.
 *
 * @example
 *     const response = await fetch(url);
 *     await observe(github.for(installation), response);
 */
export async function observe(
  limit: Blockable,
  response: unknown,
  options?: FeedbackOptions,
): Promise<Feedback | undefined> {
  const feedback = readFeedback(response, options);
  const { blockForMs = 0 } = feedback ?? {};
  // Up to whole milliseconds, so that nobody comes back a fraction too early.
  if (blockForMs > 0) await limit.block(Math.ceil(blockForMs));
  return feedback;
}
