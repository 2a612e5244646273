export { assert, unreachable } from "./base/assert.ts";
export { type Clock, systemClock, type Timer } from "./base/clock.ts";
export { describeValue } from "./base/describe.ts";
export { Emitter, type ListenerErrorSink } from "./base/emitter.ts";
export { type ErrorEntry, errorTable } from "./base/error-table.ts";
export {
  type ErrorCode,
  type ErrorFamily,
  isSluiceError,
  SluiceError,
  type SluiceErrorOptions,
} from "./base/errors.ts";
export { keyLengthMax, requireKey } from "./base/key.ts";
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
export { type ConcurrencyOptions, concurrency, type LimitOptions, limit } from "./declare-limit.ts";
export { type CachedDenialsOptions, cachedDenials } from "./distribution/cached-denials.ts";
export {
  type FailMode,
  type FailOptions,
  type GuardEvents,
  type GuardedStore,
  type GuardOptions,
  guarded,
} from "./distribution/guarded.ts";
export type { LeaseEvent, LeaseEvents } from "./distribution/lease-holder.ts";
export { type LeasedStore, type LeaseOptions, leased } from "./distribution/leased.ts";
export { type Adaptable, type AdaptiveOptions, type AdaptiveRate, adaptive } from "./feedback/adaptive.ts";
export { type AimdPolicy, type AimdState, aimdRefusal, aimdStart, aimdSuccess } from "./feedback/aimd.ts";
export {
  type FetchBudget,
  type FetchLimit,
  type LimitedFetchOptions,
  limitedFetch,
} from "./feedback/limited-fetch.ts";
export { type Blockable, observe } from "./feedback/observe.ts";
export type { Quota } from "./feedback/quota.ts";
export { type Feedback, type FeedbackOptions, readFeedback } from "./feedback/read-feedback.ts";
export { parseRetryAfter } from "./feedback/retry-after.ts";
export {
  type BareItem,
  type FieldItem,
  type FieldMember,
  type InnerList,
  type Parameters as FieldParameters,
  parseDictionary,
  parseList,
} from "./feedback/structured-fields.ts";
export type { AcquireOptions, TryOptions } from "./limit/acquire-options.ts";
export { type Block, blockAt, blockedVerdict, blockFor, blockUsMax } from "./limit/algorithms/block.ts";
export {
  type ConcurrencyOutcome,
  type ConcurrencyPolicy,
  type ConcurrencyState,
  concurrencyConsume,
  concurrencyIsIdle,
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
  fixedWindowSettle,
  type WindowAlignment,
} from "./limit/algorithms/fixed-window.ts";
export {
  type KeyDraw,
  type KeyOutcome,
  type KeyState,
  keyBlock,
  keyConsume,
  keyConsumeUpTo,
  keyIsIdle,
  keyPeek,
  keyRelease,
  keyRenew,
  keySettle,
  keysConsumeAll,
  unusedKey,
} from "./limit/algorithms/key-state.ts";
export {
  type Policy,
  type RateAlgorithm,
  type RatePolicy,
  type RatePolicyOptions,
  type RateState,
  rateConsume,
  rateConsumeUpTo,
  rateConvert,
  rateIsIdle,
  ratePeek,
  ratePolicy,
  rateSettle,
  type Settlement,
} from "./limit/algorithms/policy.ts";
export {
  type SlidingWindowEntry,
  type SlidingWindowPolicy,
  type SlidingWindowState,
  slidingWindowConsume,
  slidingWindowIsIdle,
  slidingWindowPeek,
  slidingWindowPolicy,
  slidingWindowSettle,
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
  tokenBucketSettle,
} from "./limit/algorithms/token-bucket.ts";
export type { Charge, DecisionMode, Outcome, Verdict } from "./limit/algorithms/verdict.ts";
export { Budget, type Reply, type Timing } from "./limit/budget.ts";
export {
  all,
  type CombinedDecision,
  CombinedLimit,
  type CombinedPart,
  CombinedReservation,
} from "./limit/combined-limit.ts";
export { ConcurrencyLimit, KeyedConcurrency } from "./limit/concurrency-limit.ts";
export { type Decision, RateLimitExceeded } from "./limit/decision.ts";
export type { LimitEvents, WaitEvent } from "./limit/events.ts";
export { KeyedLimit } from "./limit/keyed.ts";
export { Limit } from "./limit/limit.ts";
export { Reservation } from "./limit/reservation.ts";
export { Slot } from "./limit/slot.ts";
export {
  type Answer,
  type Draw,
  isLater,
  isLimitStore,
  isNearStore,
  type LimitRule,
  type LimitStore,
  type NearStore,
  type NearTable,
  whenAnswered,
} from "./limit/store.ts";
export type { Acquirable, Call, CallContext, CallPolicy } from "./policies/call-policy.ts";
export {
  CircuitBreaker,
  type CircuitBreakerOptions,
  type CircuitEvents,
  type CircuitPass,
  type CircuitState,
  circuitBreaker,
} from "./policies/circuit-breaker.ts";
export {
  type MapLimited,
  type MapLimitedOptions,
  type MapSource,
  mapLimited,
} from "./policies/map-limited.ts";
export type { MapContext, MapProgress } from "./policies/map-run.ts";
export { pipeline } from "./policies/pipeline.ts";
export { type RateLimitedDecorator, rateLimited } from "./policies/rate-limited.ts";
export { type FailedAttempt, type RetryOptions, retry } from "./policies/retry.ts";
export { type KeyedAcquirable, type WrapOptions, wrap } from "./policies/wrap.ts";
export { type MemoryStore, type MemoryStoreOptions, memory } from "./stores/memory/memory-store.ts";
