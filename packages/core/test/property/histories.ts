import { type Rate, rateLimitMax } from "@sluice/core";
import fc from "fast-check";

/** How many random histories each property sees. */
export const runs = Number(process.env["SLUICE_PROPERTY_RUNS"] ?? 2000);

/** A point in a history: how long after the one before, and what is asked for. */
export interface Step {
  readonly gap: Gap;
  readonly cost: number;
}

/**
 * How long after the step before. Instants of their own are chosen in the units that matter to the rule under test:
 * whole emission intervals and periods, a microsecond beside them, and exactly when the last denial said.
 */
export type Gap =
  | { readonly kind: "at-once" }
  | { readonly kind: "microseconds"; readonly count: number }
  | { readonly kind: "intervals"; readonly count: number; readonly offUs: number }
  | { readonly kind: "periods"; readonly count: number; readonly offUs: number }
  | { readonly kind: "as-told"; readonly offUs: number };

const offUs = fc.constantFrom(-1, 0, 0, 1);

const gap: fc.Arbitrary<Gap> = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: "at-once" } as const) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("microseconds" as const), count: fc.nat(50) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("intervals" as const),
      count: fc.double({ min: 0, max: 3, noNaN: true }),
      offUs,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("periods" as const),
      count: fc.double({ min: 0, max: 2, noNaN: true }),
      offUs,
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("as-told" as const), offUs }) },
);

/** Up to 40 requests, most of cost 1, some large, now and then above a capacity of `capacity`. */
export function steps(capacity: number): fc.Arbitrary<readonly Step[]> {
  const cost = fc.oneof(
    { weight: 4, arbitrary: fc.constant(1) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: capacity }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: capacity + 2 }) },
  );
  return fc.array(fc.record({ gap, cost }), { minLength: 1, maxLength: 40 });
}

/** The microseconds of a gap under `rate`; `toldUs` is what the last denial said to wait. */
export function microsecondsOf(each: Gap, rate: Rate, toldUs: number): number {
  switch (each.kind) {
    case "at-once":
      return 0;
    case "microseconds":
      return each.count;
    case "intervals":
      return Math.max(0, Math.round((each.count * rate.periodUs) / rate.limit) + each.offUs);
    case "periods":
      return Math.max(0, Math.round(each.count * rate.periodUs) + each.offUs);
    case "as-told":
      return Math.max(0, toldUs + each.offUs);
  }
}

/** Rates of every magnitude: slow, fast, with intervals that are whole microseconds and with ones that are not. */
export function rates(limitMax: number = rateLimitMax): fc.Arbitrary<Pick<Rate, "limit" | "periodUs">> {
  const limit = fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 1, max: Math.min(12, limitMax) }) },
    { weight: 2, arbitrary: fc.integer({ min: 1, max: Math.min(5_000, limitMax) }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: limitMax }) },
  );
  const periodUs = fc.oneof(
    fc.constantFrom(1_000, 250_000, 700_000, 1_000_000, 10_000_000, 60_000_000, 3_600_000_000),
    fc.integer({ min: 1_000, max: 5_000 }),
    fc.integer({ min: 1_000, max: 10_000_000 }),
    fc.integer({ min: 1_000, max: 86_400_000_000 }),
  );
  return fc.record({ limit, periodUs });
}

/** An instant with an epoch in front of it, as a real clock has. */
export const epochUs = 1_767_225_600_123_457;

/** An admission, as the models keep them: a plain list. */
export interface Admission {
  readonly atUs: number;
  readonly cost: number;
}

/** The most cost admitted in any window (t − W, t], over all windows. */
export function fullestWindow(admissions: readonly Admission[], windowUs: number): number {
  let fullest = 0;
  for (const { atUs } of admissions) {
    const inside = admissions.filter((other) => other.atUs > atUs - windowUs && other.atUs <= atUs);
    fullest = Math.max(
      fullest,
      inside.reduce((sum, { cost }) => sum + cost, 0),
    );
  }
  return fullest;
}
