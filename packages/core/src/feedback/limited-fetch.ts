import { boolean, custom, durationMs, fn, optional, resolveOptions } from "../base/options.ts";
import { type Decision, RateLimitExceeded } from "../limit/decision.ts";
import { type Blockable, observe } from "./observe.ts";
import type { Feedback, FeedbackOptions } from "./read-feedback.ts";

/** What {@link limitedFetch} needs of one budget. */
export interface FetchBudget extends Blockable {
  acquire(
    cost?: number,
    options?: { readonly signal?: AbortSignal; readonly maxWaitMs?: number },
  ): PromiseLike<Decision>;
}

/** What {@link limitedFetch} needs of a limit: itself a budget, and one for each key. */
export interface FetchLimit extends FetchBudget {
  for(key: string): FetchBudget;
}

/** The options of {@link limitedFetch}. */
export interface LimitedFetchOptions {
  /** What makes the request; default the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Whose budget a request draws from: a key, or what makes one of the arguments; default the limit's own. */
  readonly key?: string | ((...request: Parameters<typeof fetch>) => string);
  /** What a request takes, or what works it out; default 1. */
  readonly cost?: number | ((...request: Parameters<typeof fetch>) => number);
  /** The longest wait for admission, in milliseconds; unbounded by default. */
  readonly maxWaitMs?: number;
  /**
   * Whether a request that the server refused for its rate is made once more when the limit admits it again; default false.
   * Not one whose body is a stream, which cannot be sent twice. If the wait would exceed `maxWaitMs`, the refusal is returned.
   */
  readonly retry?: boolean;
  /** How answers are read: the cap on blocks above all. */
  readonly feedback?: FeedbackOptions;
  /** Told of every answer, and what was read from it: undefined when it says nothing about limits. */
  readonly onFeedback?: (feedback: Feedback | undefined, response: Response) => void;
}

const spec = {
  fetch: optional(fn<typeof fetch>()),
  key: optional(
    custom<NonNullable<LimitedFetchOptions["key"]>>("a key or a function", (value) =>
      typeof value === "string" || typeof value === "function"
        ? (value as NonNullable<LimitedFetchOptions["key"]>)
        : undefined,
    ),
  ),
  cost: custom<NonNullable<LimitedFetchOptions["cost"]>>(
    "a whole number of at least 1 or a function",
    (value) =>
      typeof value === "function" || (Number.isSafeInteger(value) && (value as number) >= 1)
        ? (value as NonNullable<LimitedFetchOptions["cost"]>)
        : undefined,
    { default: 1 },
  ),
  maxWaitMs: optional(durationMs()),
  retry: boolean({ default: false }),
  feedback: optional(custom<FeedbackOptions>("options of readFeedback", asObject)),
  onFeedback: optional(fn<NonNullable<LimitedFetchOptions["onFeedback"]>>()),
};

function asObject(value: unknown): FeedbackOptions | undefined {
  return typeof value === "object" && value !== null ? value : undefined;
}

/**
 * Makes a `fetch` that keeps to a limit and learns from the answers: it waits for admission, makes the request, and lets
 * {@link observe} block the limit when the server says to stay away. The request's signal ends the wait as well.
 *
 * @throws The function returned rejects with `RateLimitExceeded` (`rate_limited`) when the wait would exceed `maxWaitMs`, and
 *   with whatever `fetch` and `acquire` reject with. A 429 is an answer and is returned.
 *
 * @example
 *     const github = limit("github", "5000/h");
 *     const githubFetch = limitedFetch(github, { key: "my-installation", retry: true });
 *     const response = await githubFetch("https://api.github.com/user");
 */
export function limitedFetch(limit: FetchLimit, options?: LimitedFetchOptions): typeof fetch {
  const resolved = resolveOptions("limitedFetch", spec, options);
  const { key, cost, retry, feedback: reading, onFeedback } = resolved;
  const send = resolved.fetch ?? globalThis.fetch;
  const wait = resolved.maxWaitMs === undefined ? {} : { maxWaitMs: resolved.maxWaitMs };

  return async (input, init) => {
    const keyed = typeof key === "function" ? key(input, init) : key;
    const budget = keyed === undefined ? limit : limit.for(keyed);
    const price = typeof cost === "function" ? cost(input, init) : cost;
    const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
    const acquire = async (): Promise<Decision> =>
      budget.acquire(price, { ...wait, ...(signal ? { signal } : {}) });
    const attempt = async (request: typeof input): Promise<Attempt> => {
      const response = await send(request, init);
      const feedback = await observe(budget, response, reading);
      onFeedback?.(feedback, response);
      return { response, refused: feedback?.refused === true };
    };

    const decision = await acquire();
    if (!decision.allowed) throw new RateLimitExceeded(decision);
    const mayRetry = retry && canBeSentTwice(input, init);
    const { response, refused } = await held(decision, () =>
      attempt(mayRetry && input instanceof Request ? input.clone() : input),
    );
    if (!refused || !mayRetry) return response;

    const again = await acquire();
    if (!again.allowed) return response;
    await response.body?.cancel();
    return (await held(again, () => attempt(input))).response;
  };
}

interface Attempt {
  readonly response: Response;
  readonly refused: boolean;
}

/** Gives a concurrency limit its slot back once the answer has begun; a rate has none to give back. */
async function held<Result>(decision: Decision, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } finally {
    const slot = decision as Decision & Partial<AsyncDisposable & Disposable>;
    if (slot[Symbol.asyncDispose] !== undefined) await slot[Symbol.asyncDispose]?.();
    else slot[Symbol.dispose]?.();
  }
}

function canBeSentTwice(...[input, init]: Parameters<typeof fetch>): boolean {
  const body: unknown = init?.body;
  if (body === undefined || body === null) return !(input instanceof Request && input.bodyUsed);
  return !(body instanceof ReadableStream) && !(typeof body === "object" && Symbol.asyncIterator in body);
}
