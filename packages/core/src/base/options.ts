/**
 * Reading of options. A constructor declares what it takes as a table of fields and gets back a complete, frozen,
 * typed object, or an error that says which option, what was expected and what came:
 *
 *     const options = resolveOptions('queue "users"', {
 *       maxAttempts: integer({ default: 5, min: 1, max: 1000 }),
 *       rate: optional(rate()),
 *       partition: object({ concurrency: integer({ default: 1, min: 1 }) }),
 *     }, given);
 *
 *     queue "users": option partition.concurrency: expected a whole number of at least 1, got 0
 */
import { describeValue } from "./describe.ts";
import { isSluiceError, SluiceError } from "./errors.ts";
import { parseRate, type Rate, type RateInput } from "./rate.ts";

/** Where a value stands, for the message when it is wrong. */
export interface OptionPlace {
  /** Whose options these are, as the message begins: `queue "users"`. */
  readonly owner: string;
  /** The path of the option: `partition.concurrency`. */
  readonly path: string;
}

/** One option: what it accepts and what it is when not given. Made by the builders below. */
export interface OptionField<Value> {
  /** What is accepted, in words that follow "expected". */
  readonly expected: string;
  /** The value when the option is absent or undefined; without it the option is required. */
  readonly whenAbsent?: (place: OptionPlace) => Value;
  /** Checks and converts a value that was given. */
  read(value: unknown, place: OptionPlace): Value;
}

/** The options of one constructor, by name. */
export type OptionSpec = Readonly<Record<string, OptionField<unknown>>>;

/** What {@link resolveOptions} makes of a spec. */
export type ResolvedOptions<Spec extends OptionSpec> = {
  readonly [Name in keyof Spec]: Spec[Name] extends OptionField<infer Value> ? Value : never;
};

/**
 * Resolves `given` against `spec`: defaults filled in, bounds checked, unknown names refused, result frozen.
 * @throws `invalid_option`, or `invalid_rate` for a rate that cannot be read.
 */
export function resolveOptions<Spec extends OptionSpec>(
  owner: string,
  spec: Spec,
  given: object | undefined,
): ResolvedOptions<Spec> {
  return resolveAt({ owner, path: "" }, spec, given === undefined ? {} : given);
}

function resolveAt<Spec extends OptionSpec>(
  place: OptionPlace,
  spec: Spec,
  given: unknown,
): ResolvedOptions<Spec> {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw mismatch(place, "an object of options", given);
  }
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(spec, name)) throw unknownOption(place, name, Object.keys(spec));
  }
  const values = given as Readonly<Record<string, unknown>>;
  const resolved: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(spec)) {
    const at = { owner: place.owner, path: place.path === "" ? name : `${place.path}.${name}` };
    // Only own properties: an option must not come from a polluted prototype.
    const value = Object.hasOwn(values, name) ? values[name] : undefined;
    if (value !== undefined) resolved[name] = field.read(value, at);
    else if (field.whenAbsent !== undefined) resolved[name] = field.whenAbsent(at);
    else throw mismatch(at, field.expected, undefined);
  }
  return Object.freeze(resolved) as ResolvedOptions<Spec>;
}

/** Bounds and default of a numeric option, both bounds included. */
export interface NumberBounds {
  readonly default?: number;
  readonly min?: number;
  readonly max?: number;
}

/** A whole number within ±2^53. */
export function integer(bounds: NumberBounds = {}): OptionField<number> {
  return numeric("a whole number", bounds, Number.isSafeInteger);
}

/** A finite number. */
export function number(bounds: NumberBounds = {}): OptionField<number> {
  return numeric("a number", bounds, Number.isFinite);
}

/** The longest duration an option takes: 10 years of 365 days. */
const durationMsMax = 10 * 365 * 86_400_000;

/** A duration in milliseconds, fractions allowed; from 0 to 10 years unless bounded closer. */
export function durationMs(bounds: NumberBounds = {}): OptionField<number> {
  return numeric("a duration in milliseconds", { min: 0, max: durationMsMax, ...bounds }, Number.isFinite);
}

function numeric(
  noun: string,
  bounds: NumberBounds,
  accepts: (value: number) => boolean,
): OptionField<number> {
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = bounds;
  const expected = `${noun}${boundsInWords(bounds)}`;
  const fits = (value: unknown): value is number =>
    typeof value === "number" && accepts(value) && value >= min && value <= max;
  return field(expected, bounds.default, (value) => (fits(value) ? value : undefined));
}

function boundsInWords({ min, max }: NumberBounds): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined) return ` of at least ${min}`;
  return max === undefined ? "" : ` of at most ${max}`;
}

/** Length, form and default of a text option. */
export interface StringBounds {
  readonly default?: string;
  /** Fewest UTF-16 units; default 1, so that an empty string is refused. */
  readonly minLength?: number;
  /** Most UTF-16 units; default 1 000. */
  readonly maxLength?: number;
  /** What the whole text must match. `form` says it in words. */
  readonly pattern?: RegExp;
  /** The words for `pattern` in the message: `of lower-case letters and dashes`. */
  readonly form?: string;
}

/** A text. NUL and lone surrogates are refused always: no store can keep them. */
export function string(bounds: StringBounds = {}): OptionField<string> {
  const { minLength = 1, maxLength = 1000, pattern, form } = bounds;
  const expected = `a string of ${minLength} to ${maxLength} characters${form === undefined ? "" : ` ${form}`}`;
  const fits = (value: unknown): value is string =>
    typeof value === "string" &&
    value.length >= minLength &&
    value.length <= maxLength &&
    !/[\0\p{Surrogate}]/u.test(value) &&
    (pattern === undefined || pattern.test(value));
  return field(expected, bounds.default, (value) => (fits(value) ? value : undefined));
}

/** `true` or `false`, nothing that merely looks like it. */
export function boolean(options: { readonly default?: boolean } = {}): OptionField<boolean> {
  return field("true or false", options.default, (value) => (typeof value === "boolean" ? value : undefined));
}

/** One of a few words. */
export function oneOf<const Word extends string>(
  words: readonly Word[],
  options: { readonly default?: NoInfer<Word> } = {},
): OptionField<Word> {
  const expected = words.map((word) => JSON.stringify(word)).join(" or ");
  return field(expected, options.default, (value) => words.find((word) => word === value));
}

/** A rate, read by {@link parseRate}. Its error keeps the code `invalid_rate` and gains the path of the option. */
export function rate(options: { readonly default?: RateInput } = {}): OptionField<Rate> {
  const fallback = options.default;
  return {
    expected: 'a rate such as "10/60s"',
    ...(fallback === undefined ? {} : { whenAbsent: () => parseRate(fallback) }),
    read(value, place) {
      try {
        return parseRate(value as RateInput);
      } catch (error) {
        if (!isSluiceError(error, "invalid_rate")) throw error;
        const message = error.message.replace(/^rate: /, `${prefix(place)}: `);
        throw new SluiceError("invalid_rate", message, { details: { ...error.details, option: place.path } });
      }
    },
  };
}

/** A function. Its signature is the caller's word: it cannot be checked here. */
// biome-ignore lint/complexity/noBannedTypes: any function is what this accepts; Signature narrows it for the compiler.
export function fn<Signature extends Function>(
  options: { readonly default?: Signature } = {},
): OptionField<Signature> {
  return field("a function", options.default, (value) =>
    typeof value === "function" ? (value as unknown as Signature) : undefined,
  );
}

/** An object with options of its own. When it is absent, the defaults of its fields hold. */
export function object<Spec extends OptionSpec>(spec: Spec): OptionField<ResolvedOptions<Spec>> {
  return {
    expected: "an object of options",
    whenAbsent: (place) => resolveAt(place, spec, {}),
    read: (value, place) => resolveAt(place, spec, value),
  };
}

/** An array whose items are all of one kind. Frozen. */
export function list<Item>(
  item: OptionField<Item>,
  options: { readonly default?: readonly Item[]; readonly maxLength?: number } = {},
): OptionField<readonly Item[]> {
  const { default: fallback, maxLength = 1000 } = options;
  const expected = `an array of at most ${maxLength} items`;
  return {
    expected,
    ...(fallback === undefined ? {} : { whenAbsent: () => Object.freeze([...fallback]) }),
    read(value, place) {
      if (!Array.isArray(value) || value.length > maxLength) throw mismatch(place, expected, value);
      const items = Array.from(value, (each: unknown, index) =>
        item.read(each, { owner: place.owner, path: `${place.path}[${index}]` }),
      );
      return Object.freeze(items);
    },
  };
}

/** Makes an option one that may be left out: `undefined` then. */
export function optional<Value>(inner: OptionField<Value>): OptionField<Value | undefined> {
  return {
    expected: inner.expected,
    whenAbsent: () => undefined,
    read: (value, place) => inner.read(value, place),
  };
}

/**
 * A kind of its own. `read` returns the value to use, or `undefined` when it is not acceptable.
 * @param expected What is accepted, in words that follow "expected".
 */
export function custom<Value>(
  expected: string,
  read: (value: unknown) => Value | undefined,
  options: { readonly default?: NoInfer<Value> } = {},
): OptionField<Value> {
  return field(expected, options.default, read);
}

function field<Value>(
  expected: string,
  fallback: Value | undefined,
  accept: (value: unknown) => Value | undefined,
): OptionField<Value> {
  return {
    expected,
    ...(fallback === undefined ? {} : { whenAbsent: () => fallback }),
    read(value, place) {
      const accepted = accept(value);
      if (accepted === undefined) throw mismatch(place, expected, value);
      return accepted;
    },
  };
}

function prefix(place: OptionPlace): string {
  return place.path === "" ? place.owner : `${place.owner}: option ${place.path}`;
}

function mismatch(place: OptionPlace, expected: string, value: unknown): SluiceError {
  const got = value === undefined ? "nothing" : describeValue(value);
  return new SluiceError("invalid_option", `${prefix(place)}: expected ${expected}, got ${got}`, {
    details: { owner: place.owner, option: place.path, expected, got },
  });
}

function unknownOption(place: OptionPlace, name: string, known: readonly string[]): SluiceError {
  const path = place.path === "" ? name : `${place.path}.${name}`;
  const near = nearest(name, known);
  const hint = near === undefined ? `known are ${known.join(", ")}` : `did you mean ${near}?`;
  const message = `${place.owner}: unknown option ${describeValue(path)}; ${hint}`;
  return new SluiceError("invalid_option", message, {
    details: { owner: place.owner, option: path, known },
  });
}

/** The known name with the fewest edits to `name`, if it is near enough to be a slip. */
function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let fewest = Math.min(3, Math.floor(name.length / 2)) + 1;
  for (const candidate of known) {
    const edits = editDistance(name.slice(0, 40).toLowerCase(), candidate.toLowerCase());
    if (edits < fewest) [best, fewest] = [candidate, edits];
  }
  return best;
}

/** Levenshtein's distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
