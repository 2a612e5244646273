import type { Decision } from "../limit/decision.ts";

/** What a function that runs under a policy is given. */
export interface CallContext {
  /** Fires when the result is no longer wanted. */
  readonly signal: AbortSignal;
}

/** A function that can be run under a policy. Policies may hand it more than the signal; it need not take anything. */
export type Call<Result> = (context: CallContext) => Result | PromiseLike<Result>;

/**
 * Terms on which a function is run: with retries, behind a circuit breaker, when a limit admits it. Described by its shape, so
 * that the policies of other libraries fit (cockatiel's do) and ours fit theirs.
 */
export interface CallPolicy {
  execute<Result>(call: Call<Result>, signal?: AbortSignal): Promise<Result>;
}

/** What limits have in common: a limit, one key of it, several at once. */
export interface Acquirable {
  acquire(
    cost?: number,
    options?: { readonly signal?: AbortSignal; readonly maxWaitMs?: number },
  ): Promise<Decision>;
}

/** A signal for a call that nobody cancels. One of its own for each, since listeners would gather on a shared one. */
export function signalOr(signal: AbortSignal | undefined): AbortSignal {
  return signal ?? new AbortController().signal;
}

/** Gives back what was held for the time of a call: the slots of a concurrency limit. Does nothing for a rate. */
export async function releaseHeld(decision: object): Promise<void> {
  const held = decision as Partial<AsyncDisposable & Disposable>;
  if (held[Symbol.asyncDispose] === undefined) held[Symbol.dispose]?.();
  else await held[Symbol.asyncDispose]?.();
}
