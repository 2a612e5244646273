/**
 * Judges a list of starts against a limit, in every window there is.
 *
 * A limit of N per period P holds if no half-open window (t − P, t] has more than N starts. A window with too many
 * has one that ends exactly at a start, so it is enough to look at the windows that end at each start: the count of
 * starts in it is exact, by two indices over the sorted instants.
 *
 * The judge's own instants can be wrong: while the meter's event loop stands still, calls that arrived apart are
 * read together. The meter therefore measures its stalls, and a window over the limit that touches a stall longer
 * than the guard is counted apart (`overNearStall`), never dropped: it may be the meter's doing or the queue's.
 */

/** So many starts per period. */
export interface Budget {
  /** Starts per period. */
  readonly limit: number;
  /** Length of the period in milliseconds. */
  readonly periodMs: number;
}

/** A time in which the meter's event loop stood still, in microseconds of its clock. */
export interface Stall {
  readonly fromUs: number;
  readonly toUs: number;
}

/** What the starts of one run amount to. */
export interface Verdict {
  readonly starts: number;
  /** Windows with more starts than the limit that touch no stall. */
  readonly over: number;
  /** Windows with more starts than the limit that touch a stall: the meter cannot tell. */
  readonly overNearStall: number;
  /** Starts in the fullest window, divided by the limit. */
  readonly worst: number;
  /** Share of the budget used between the first start and the last, in percent. */
  readonly usePercent: number;
  /** How far gaps between neighbouring starts are from the even spacing P / N, in milliseconds. */
  readonly jitterP50Ms: number;
  readonly jitterP99Ms: number;
}

/** An event that was waiting while the loop stood still is read within this time after the stall. */
const afterStallUs = 2_000;

function touchesStall(fromUs: number, toUs: number, stalls: readonly Stall[]): boolean {
  return stalls.some((stall) => stall.fromUs <= toUs && stall.toUs + afterStallUs > fromUs);
}

function jitterMs(instants: Float64Array, evenUs: number): number[] {
  const away: number[] = [];
  for (let i = 1; i < instants.length; i++) {
    const gap = (instants[i] as number) - (instants[i - 1] as number);
    away.push(Math.abs(gap - evenUs) / 1000);
  }
  return away.sort((a, b) => a - b);
}

/** Judges starts (microseconds, any order) against a budget; `stalls` are those longer than the guard. */
export function judge(startsUs: readonly number[], budget: Budget, stalls: readonly Stall[] = []): Verdict {
  const instants = Float64Array.from(startsUs).sort();
  const periodUs = budget.periodMs * 1000;
  let over = 0;
  let overNearStall = 0;
  let fullest = 0;
  let oldest = 0;
  for (let last = 0; last < instants.length; last++) {
    const end = instants[last] as number;
    while ((instants[oldest] as number) <= end - periodUs) oldest++;
    const inside = last - oldest + 1;
    if (inside > fullest) fullest = inside;
    if (inside <= budget.limit) continue;
    if (touchesStall(end - periodUs, end, stalls)) overNearStall++;
    else over++;
  }
  const spanUs = instants.length > 1 ? (instants.at(-1) as number) - (instants[0] as number) : Number.NaN;
  const evenUs = periodUs / budget.limit;
  const away = jitterMs(instants, evenUs);
  const at = (p: number): number => away[Math.max(0, Math.ceil(p * away.length) - 1)] ?? Number.NaN;
  return {
    starts: instants.length,
    over,
    overNearStall,
    worst: fullest / budget.limit,
    usePercent: (100 * (instants.length - 1) * evenUs) / spanUs,
    jitterP50Ms: at(0.5),
    jitterP99Ms: at(0.99),
  };
}

/** "2/1s", "5/250ms", "500/1s" as a budget. Throws on anything else. */
export function parseBudget(text: string): Budget {
  const match = /^(\d+)\/(\d+)(ms|s)$/.exec(text);
  if (match === null) throw new Error(`not a rate of this benchmark: ${text} (expected such as 5/250ms)`);
  return { limit: Number(match[1]), periodMs: Number(match[2]) * (match[3] === "s" ? 1000 : 1) };
}
