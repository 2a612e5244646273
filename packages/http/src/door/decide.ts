import { all, type Decision, type KeyedLimit, type Limit } from "@sluice/core";

/** What one request draws from one limit. */
export interface Draw {
  readonly limit: Limit;
  /** Empty for the limit's own budget. */
  readonly key: string;
  readonly cost: number;
}

/** One decision over all draws: either every one is debited, or none. The decisions come in the order of the draws. */
export async function decide(draws: readonly Draw[]): Promise<readonly Decision[]> {
  const [only, ...more] = draws;
  if (only === undefined) return [];
  if (more.length === 0) return [await budgetOf(only).tryAcquire(only.cost)];
  return (await all(...draws.map(partOf)).tryAcquire()).parts;
}

/** A decision whose debits can still be corrected. */
export interface Reserved {
  readonly decisions: readonly Decision[];
  /** Corrects the debits to what was used, in the order of the draws; undefined when nothing was debited. */
  readonly settle: ((actuals: readonly number[]) => Promise<void>) | undefined;
}

/** Like {@link decide}, with debits that can be corrected. */
export async function reserve(draws: readonly Draw[]): Promise<Reserved> {
  const [only, ...more] = draws;
  if (only !== undefined && more.length === 0) {
    const reservation = await budgetOf(only).reserve(only.cost);
    const settle = async ([actual]: readonly number[]): Promise<void> => reservation.settle(actual!);
    return { decisions: [reservation.decision], settle: reservation.allowed ? settle : undefined };
  }
  const reservation = await all(...draws.map(partOf)).reserve();
  const settle = async (actuals: readonly number[]): Promise<void> => reservation.settle(actuals);
  return { decisions: reservation.decision.parts, settle: reservation.allowed ? settle : undefined };
}

function partOf(draw: Draw): { readonly limit: KeyedLimit; readonly cost: number } {
  return { limit: budgetOf(draw), cost: draw.cost };
}

function budgetOf({ limit, key }: Draw): KeyedLimit {
  return key === "" ? limit : limit.for(key);
}
