import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import { isLimitStore, type LimitStore } from "../limit/store.ts";

/** The stores that are made of a store, from the innermost to the outermost. */
const rungs = ["cachedDenials", "leased", "guarded"] as const;

/** One of them. */
export type Rung = (typeof rungs)[number];

const rungOfStore = new WeakMap<LimitStore, Rung>();

/** Notes what a store is, so that it is not wrapped in the wrong order. */
export function standsOn(store: LimitStore, rung: Rung): void {
  rungOfStore.set(store, rung);
}

/**
 * Checks what is to be wrapped. The order is `guarded(leased(cachedDenials(store)))`, each of them optional: a lease must be
 * debited in the store that all share, never in what stands in for it while it is away; and a denial can be remembered only
 * where every change of the key comes by.
 * @throws `invalid_option` for what is no store, or would be in the wrong order.
 */
export function requireBelow(rung: Rung, store: LimitStore): void {
  if (!isLimitStore(store))
    throw new SluiceError("invalid_option", `${rung}: expected a store, got ${describeValue(store)}`);
  const inner = rungOfStore.get(store);
  if (inner === undefined || rungs.indexOf(inner) < rungs.indexOf(rung)) return;
  throw new SluiceError(
    "invalid_option",
    `${rung}: cannot go around ${inner}; the order is guarded(leased(cachedDenials(store))), each of them once`,
    { details: { outer: rung, inner } },
  );
}
