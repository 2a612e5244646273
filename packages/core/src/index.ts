export { assert, unreachable } from "./base/assert.ts";
export { type Clock, systemClock, type Timer } from "./base/clock.ts";
export { describeValue } from "./base/describe.ts";
export { Emitter, type ListenerErrorSink } from "./base/emitter.ts";
export {
  type ErrorCode,
  type ErrorEntry,
  type ErrorFamily,
  errorTable,
  isSluiceError,
  SluiceError,
  type SluiceErrorOptions,
} from "./base/errors.ts";
export {
  boolean,
  custom,
  durationMs,
  fn,
  integer,
  list,
  type NumberBounds,
  number,
  type OptionField,
  type OptionPlace,
  type OptionSpec,
  object,
  oneOf,
  optional,
  type ResolvedOptions,
  rate,
  resolveOptions,
  type StringBounds,
  string,
} from "./base/options.ts";
export {
  formatRate,
  parseRate,
  periodUsMax,
  periodUsMin,
  type Rate,
  type RateInput,
  rateLimitMax,
} from "./base/rate.ts";
export { type LimitOptions, limit } from "./declare-limit.ts";
export {
  type ConcurrencyOutcome,
  type ConcurrencyPolicy,
  type ConcurrencyState,
  concurrencyConsume,
  concurrencyPeek,
  concurrencyPolicy,
  concurrencyRelease,
  concurrencyRenew,
  type Lease,
} from "./limit/algorithms/concurrency.ts";
export {
  type FixedWindowPolicy,
  type FixedWindowState,
  fixedWindowConsume,
  fixedWindowIsIdle,
  fixedWindowPeek,
  fixedWindowPolicy,
  type WindowAlignment,
} from "./limit/algorithms/fixed-window.ts";
export {
  type RateAlgorithm,
  type RatePolicy,
  type RatePolicyOptions,
  type RateState,
  rateConsume,
  rateIsIdle,
  ratePeek,
  ratePolicy,
} from "./limit/algorithms/policy.ts";
export {
  type SlidingWindowPolicy,
  type SlidingWindowState,
  slidingWindowConsume,
  slidingWindowIsIdle,
  slidingWindowPeek,
  slidingWindowPolicy,
} from "./limit/algorithms/sliding-window.ts";
export {
  type GrantRequest,
  type Grants,
  type TokenBucketOptions,
  type TokenBucketPolicy,
  type TokenBucketState,
  tokenBucketConsume,
  tokenBucketGrants,
  tokenBucketIsIdle,
  tokenBucketPeek,
  tokenBucketPolicy,
} from "./limit/algorithms/token-bucket.ts";
export type { Outcome, Verdict } from "./limit/algorithms/verdict.ts";
export { type Decision, RateLimitExceeded } from "./limit/decision.ts";
export { type AcquireOptions, KeyedLimit } from "./limit/keyed.ts";
export { Limit } from "./limit/limit.ts";
export type { LimitRule, LimitStore } from "./limit/store.ts";
export { type MemoryStore, type MemoryStoreOptions, memory } from "./stores/memory/memory-store.ts";
