/** A limit's rule as the script is told it, and the values it keeps under that rule. Worked out once per rule. */
import type { Policy } from "../../limit/algorithms/policy.ts";
import type { LimitRule } from "../../limit/store.ts";
import { encodePart } from "./key-names.ts";
import { type Script, scripts } from "./script.generated.ts";

/** The rule in the words of `lua/`. */
export interface RuleText {
  readonly rule: LimitRule;
  /** The limit's field: its name, encoded. */
  readonly field: string;
  /** JSON, for the general path. */
  readonly json: string;
  /** A usual check of this cost; undefined when none of this rule and cost is. */
  usual(cost: number): UsualCheck | undefined;
}

/** How the script is told of a check that is decided without the general path. */
export interface UsualCheck {
  /** The ten parameters for the path of checks alike. */
  readonly alike: readonly string[];
  /** The call for one alone in its batch, on the server's clock. */
  readonly alone: Call;
}

/** A script and its parameters. */
export interface Call {
  readonly script: Script;
  readonly parameters: readonly string[];
}

/** Above these a log needs its wide form: offsets below 2^32 µs, and twice the limit below 2^16. */
const narrow = { periodUs: 2 ** 32, limit: 32_767 };

const texts = new WeakMap<LimitRule, RuleText>();

/** The text of a rule, remembered by the rule's identity. */
export function ruleTextOf(rule: LimitRule): RuleText {
  let text = texts.get(rule);
  if (text === undefined) {
    text = make(rule);
    texts.set(rule, text);
  }
  return text;
}

function make(rule: LimitRule): RuleText {
  const { policy } = rule;
  const isWide =
    policy.algorithm === "sliding-window" &&
    (policy.rate.periodUs >= narrow.periodUs || policy.rate.limit > narrow.limit);
  const field = encodePart(rule.name);
  const header = headerOf(policy, isWide);
  const linger = lingerMs(policy);
  const json = JSON.stringify({ field, header, linger, ...fieldsOf(policy, isWide) });
  const common = [field, header, String(linger)];
  const usual = rememberedByCost((cost) => {
    const check = isWide ? undefined : checkOf(policy, cost);
    if (check === undefined) return undefined;
    const numbers = check.numbers.map(String);
    const padding = Array<string>(6 - numbers.length).fill("");
    return {
      alike: [check.kind, ...common, ...numbers, ...padding],
      alone: { script: scripts[check.kind], parameters: ["0", ...common, ...numbers] },
    };
  });
  return { rule, field, json, usual };
}

/** Remembers the first few costs: there are mostly few, but a caller may ask for every one there is. */
function rememberedByCost<Value>(work: (cost: number) => Value): (cost: number) => Value {
  const known = new Map<number, Value>();
  return (cost) => {
    const before = known.get(cost);
    if (before !== undefined) return before;
    const value = work(cost);
    if (known.size < 16) known.set(cost, value);
    return value;
  };
}

/**
 * How long a key is kept beyond what it is needed for, in milliseconds: the longer, the fewer debits have to prolong its time
 * to live, and the longer an idle key takes up room.
 */
function lingerMs(policy: Policy): number {
  const spanUs =
    policy.algorithm === "concurrency"
      ? policy.leaseUs
      : policy.algorithm === "token-bucket"
        ? policy.fillUs
        : policy.rate.periodUs;
  return Math.min(60_000, Math.max(1_000, Math.ceil(spanUs / 4_000)));
}

function headerOf(policy: Policy, isWide: boolean): string {
  if (policy.algorithm === "concurrency") return "k:";
  const { rate, capacity } = policy;
  return `${tagOf(policy, isWide)}${[rate.limit, rate.periodUs, capacity].map((n) => n.toString(36)).join(".")}:`;
}

function tagOf(policy: Policy, isWide: boolean): string {
  switch (policy.algorithm) {
    case "token-bucket":
      return "t";
    case "sliding-window":
      return isWide ? "l" : "s";
    case "fixed-window":
      return policy.align === "calendar" ? "c" : "f";
    case "concurrency":
      return "k";
  }
}

function fieldsOf(policy: Policy, isWide: boolean): object {
  if (policy.algorithm === "concurrency")
    return { kind: 4, capacity: policy.capacity, lease: policy.leaseUs };
  const common = { limit: policy.rate.limit, period: policy.rate.periodUs, capacity: policy.capacity };
  switch (policy.algorithm) {
    case "token-bucket": {
      const { parts, intervalUs, intervalPart, fillUs, fillPart, horizonUs } = policy;
      const interval = { parts, intervalUs, intervalPart, fillUs, fillPart, horizon: horizonUs };
      return { kind: 1, ...common, ...interval };
    }
    case "sliding-window":
      return { kind: 2, ...common, cell: policy.cellUs, wide: isWide };
    case "fixed-window":
      return { kind: 3, ...common, calendar: policy.align === "calendar" };
  }
}

/** The script of a usual check, and its numbers behind field, header and linger: at most six. */
function checkOf(
  policy: Policy,
  cost: number,
):
  | { readonly kind: Exclude<keyof typeof scripts, "general">; readonly numbers: readonly number[] }
  | undefined {
  switch (policy.algorithm) {
    case "token-bucket": {
      if (cost > policy.capacity) return undefined;
      const { parts, fillUs, fillPart, horizonUs, rate } = policy;
      const total = cost * policy.intervalPart;
      const costPart = total % parts;
      const costUs = cost * policy.intervalUs + (total - costPart) / parts;
      const farUs = fillUs + horizonUs + rate.periodUs;
      const inParts = parts > 1 ? [parts, costPart, fillPart] : [];
      return { kind: "bucket", numbers: [costUs, fillUs, farUs, ...inParts] };
    }
    case "sliding-window":
      return { kind: "log", numbers: [cost, policy.capacity, policy.rate.periodUs, policy.cellUs] };
    case "fixed-window": {
      const { capacity, rate, align } = policy;
      return { kind: "window", numbers: [cost, capacity, rate.periodUs, align === "calendar" ? 1 : 0] };
    }
    case "concurrency":
      return undefined;
  }
}
