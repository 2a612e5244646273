import {
  all,
  boolean,
  type Clock,
  custom,
  durationMs,
  fn,
  type Limit,
  object,
  oneOf,
  optional,
  resolveOptions,
  SluiceError,
  string,
} from "@sluice/core";
import { isFieldString } from "../codec/field-text.ts";
import type { HeaderDraft } from "../codec/rate-limit-fields.ts";
import type { TrustOptions } from "../keys/client-address.ts";
import type { DoorRequest } from "../keys/door-request.ts";
import { byAddress, type KeyResolver } from "../keys/key.ts";
import type { Answered, Denial } from "./outcome.ts";

type Later<Value> = Value | PromiseLike<Value>;

/** A limit at the door: whose budget, how much of it, and how it is shown. */
export interface DoorRule {
  readonly limit: Limit;
  /** Whose budget a request draws from; default that of the door, which is by address. */
  readonly key?: KeyResolver;
  /** What a request takes, a whole number or what works it out; 0 draws nothing. Default that of the door, which is 1. */
  readonly cost?: number | ((request: DoorRequest) => Later<number>);
  /**
   * What a request took after all, once it was answered: a whole number, 0 for nothing. The cost is debited before, and
   * corrected to this; what has come back by itself in the meantime is not given back. Default the cost.
   */
  readonly settle?: (answer: Answered, request: DoorRequest) => number;
  /** Requests that this limit does not concern. */
  readonly skip?: (request: DoorRequest) => Later<boolean>;
  /** Counts and tells `onDenied`, but refuses nobody and shows nothing; default that of the door, which is false. */
  readonly dryRun?: boolean;
  /** Shows neither numbers nor name to clients, who are still refused and told when to come again; default false. */
  readonly hidden?: boolean;
  /** What clients are told it is called, in printable ASCII; default the name of the limit. */
  readonly name?: string;
}

/** One limit or several: all have to admit a request, and if one refuses it, none is debited. */
export type DoorLimits = Limit | DoorRule | readonly (Limit | DoorRule)[];

/** Which headers clients are sent. */
export interface DoorHeaders {
  /** The draft of `RateLimit` and `RateLimit-Policy` that is followed, 6 to 11; default 11. False for none. */
  readonly draft?: HeaderDraft | false;
  /** Also `X-RateLimit-Limit`, `-Remaining` and `-Reset`, the last in seconds since the epoch or to go; default false. */
  readonly legacy?: "epoch" | "delta" | false;
  /**
   * With it, each limit carries a partition key, `pk`: a keyed hash of whose budget it is, by which a client with several
   * budgets can tell them apart. Left out by default: even a hash tells which users are the same.
   */
  readonly partitionSecret?: string;
  /** Up to how much is added at random to the time after which refused clients come again; default 0. */
  readonly jitterMs?: number;
}

/** The options of a door. All of them may be left out. */
export interface DoorOptions {
  /** Whose budget a request draws from, for limits that do not say so themselves; default {@link byAddress}. */
  readonly key?: KeyResolver;
  /** What a request takes, for limits that do not say so themselves; default 1. */
  readonly cost?: number | ((request: DoorRequest) => Later<number>);
  /** What a request took after all, for limits that do not say so themselves; see {@link DoorRule}. */
  readonly settle?: (answer: Answered, request: DoorRequest) => number;
  /** Requests that no limit concerns. */
  readonly skip?: (request: DoorRequest) => Later<boolean>;
  /** Counts and tells, but refuses nobody; default false. */
  readonly dryRun?: boolean;
  /** Which proxies are believed when they say where a request came from; default none. */
  readonly trust?: TrustOptions;
  /** Which headers clients are sent; false for none but `Retry-After`. */
  readonly headers?: DoorHeaders | false;
  /**
   * What happens to requests while a store cannot answer: `open` (the default) lets them pass, `closed` refuses them with
   * 503, `error` hands the failure to the framework. A limit whose store is guarded has decided that already.
   */
  readonly storeFailure?: "open" | "closed" | "error";
  /** Told of every refusal, those of dry runs included. */
  readonly onDenied?: (denial: Denial) => void;
  /** Told of failures that did not reach the framework; by default the first becomes a warning of the process. */
  readonly onError?: (error: unknown, request: DoorRequest) => void;
  /** Where the present comes from, for headers; default the system's clock. For tests. */
  readonly clock?: Clock;
  /** Where chance comes from, for jitter: a number from 0 up to 1; default `Math.random`. For tests. */
  readonly random?: () => number;
}

/** A rule with everything worked out. */
export interface ResolvedRule {
  readonly limit: Limit;
  readonly name: string;
  readonly key: KeyResolver;
  readonly cost: number | ((request: DoorRequest) => Later<number>);
  readonly settle: ((answer: Answered, request: DoorRequest) => number) | undefined;
  readonly skip: ((request: DoorRequest) => Later<boolean>) | undefined;
  readonly dryRun: boolean;
  readonly hidden: boolean;
}

/** The options of a door with everything worked out. */
export interface ResolvedDoor {
  readonly rules: readonly ResolvedRule[];
  /** Whether some key is made of an address, as far as one can know. */
  readonly usesAddress: boolean;
  readonly skip: ((request: DoorRequest) => Later<boolean>) | undefined;
  readonly trust: TrustOptions | undefined;
  readonly headers:
    | (Required<Pick<DoorHeaders, "draft" | "legacy" | "jitterMs">> & {
        readonly partitionSecret: string | undefined;
      })
    | undefined;
  readonly storeFailure: "open" | "closed" | "error";
  readonly onDenied: ((denial: Denial) => void) | undefined;
  readonly onError: ((error: unknown, request: DoorRequest) => void) | undefined;
  readonly clock: Clock | undefined;
  readonly random: () => number;
}

type CostOption = NonNullable<DoorOptions["cost"]>;
const cost = custom<CostOption>("a whole number of at least 0 or a function", (value) =>
  typeof value === "function" || (Number.isSafeInteger(value) && (value as number) >= 0)
    ? (value as CostOption)
    : undefined,
);
const settle = optional(fn<(answer: Answered, request: DoorRequest) => number>());
const skip = optional(fn<(request: DoorRequest) => Later<boolean>>());
const draft = custom<HeaderDraft | false>(
  "a draft from 6 to 11, or false",
  (value) =>
    value === false || (Number.isInteger(value) && (value as number) >= 6 && (value as number) <= 11)
      ? (value as HeaderDraft | false)
      : undefined,
  { default: 11 },
);
const legacy = custom<"epoch" | "delta" | false>(
  '"epoch", "delta" or false',
  (value) => (value === "epoch" || value === "delta" || value === false ? value : undefined),
  { default: false },
);
const headers = object({
  draft,
  legacy,
  partitionSecret: optional(string({ minLength: 16 })),
  jitterMs: durationMs({ default: 0, max: 3_600_000 }),
});

const doorSpec = {
  key: optional(fn<KeyResolver>()),
  cost: optional(cost),
  settle,
  skip,
  dryRun: boolean({ default: false }),
  trust: optional(custom<TrustOptions>("{proxies} or {hops}", (value) => value as TrustOptions)),
  headers: {
    ...headers,
    read: (value: unknown, place: Parameters<typeof headers.read>[1]) =>
      value === false ? undefined : headers.read(value, place),
  },
  storeFailure: oneOf(["open", "closed", "error"], { default: "open" }),
  onDenied: optional(fn<(denial: Denial) => void>()),
  onError: optional(fn<(error: unknown, request: DoorRequest) => void>()),
  clock: optional(custom<Clock>("a clock", (value) => value as Clock)),
  random: fn<() => number>({ default: Math.random }),
};

const ruleSpec = {
  limit: custom<Limit>("a rate limit", (value) => (isRateLimit(value) ? value : undefined)),
  key: optional(fn<KeyResolver>()),
  cost: optional(cost),
  settle,
  skip,
  dryRun: optional(boolean()),
  hidden: boolean({ default: false }),
  name: optional(string({ maxLength: 200 })),
};

/** @throws `invalid_option`. */
export function resolveDoor(limits: DoorLimits, options?: DoorOptions): ResolvedDoor {
  const { key, cost, settle, dryRun, ...door } = resolveOptions("rateLimit", doorSpec, options);
  const given = Array.isArray(limits) ? (limits as readonly (Limit | DoorRule)[]) : [limits as Limit];
  const defaults = { key: key ?? byAddress(), cost: cost ?? 1, settle, dryRun };
  const rules = given.map((each) => resolveRule(each, defaults));
  const names = rules.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (rules.length === 0 || twice !== undefined) {
    const message =
      twice === undefined
        ? "rateLimit: expected at least one limit"
        : `rateLimit: two limits are called ${JSON.stringify(twice)}: clients could not tell them apart (option name)`;
    throw new SluiceError("invalid_option", message);
  }
  const enforced = rules.filter((rule) => !rule.dryRun).map((rule) => rule.limit);
  // Said now, and not by the first request: limits in different distant stores cannot decide together.
  if (enforced.length > 1) all(...enforced);
  return { ...door, rules, usesAddress: key === undefined };
}

function resolveRule(
  given: Limit | DoorRule,
  defaults: Pick<ResolvedRule, "key" | "cost" | "settle" | "dryRun">,
): ResolvedRule {
  const rule = resolveOptions("rateLimit: rule", ruleSpec, isRateLimit(given) ? { limit: given } : given);
  const name = rule.name ?? rule.limit.name;
  if (!isFieldString(name) && !rule.hidden) {
    const message = `rateLimit: limit ${JSON.stringify(name)}: headers hold printable ASCII only: give the rule a name`;
    throw new SluiceError("invalid_option", message);
  }
  return {
    limit: rule.limit,
    name,
    key: rule.key ?? defaults.key,
    cost: rule.cost ?? defaults.cost,
    settle: rule.settle ?? defaults.settle,
    skip: rule.skip,
    dryRun: rule.dryRun ?? defaults.dryRun,
    hidden: rule.hidden,
  };
}

function isRateLimit(value: unknown): value is Limit {
  if (typeof value !== "object" || value === null) return false;
  const { name, for: keyed, tryAcquire, rate } = value as Partial<Limit>;
  return (
    typeof name === "string" &&
    typeof keyed === "function" &&
    typeof tryAcquire === "function" &&
    typeof rate === "object"
  );
}
