export { type Problem, problemType, quotaExceeded, temporaryReducedCapacity } from "./codec/problem.ts";
export {
  type FieldOptions,
  type Header,
  type HeaderDraft,
  type QuotaReport,
  rateLimitHeaders,
  retryAfterText,
} from "./codec/rate-limit-fields.ts";
export { Door } from "./door/door.ts";
export type { DoorHeaders, DoorLimits, DoorOptions, DoorRule } from "./door/door-options.ts";
export type { Answered, Denial, Outcome, Refusal } from "./door/outcome.ts";
export {
  type Address,
  type AddressRange,
  formatAddress,
  isWithin,
  parseAddress,
  parseRange,
} from "./keys/address.ts";
export { type AddressResolver, clientAddress, type TrustOptions } from "./keys/client-address.ts";
export type { DoorRequest } from "./keys/door-request.ts";
export {
  type AddressKeyOptions,
  byAddress,
  byHeader,
  byUser,
  type HeaderKeyOptions,
  type KeyResolver,
  safeKey,
  shared,
} from "./keys/key.ts";
