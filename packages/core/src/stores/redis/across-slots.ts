/**
 * One decision over limits that lie in different slots of a cluster, where no script reaches them all: reserve, then commit or
 * cancel.
 *
 *     look      peek at all of them: one that refuses ends it, and nothing was touched
 *     reserve   debit each slot's limits, all of a slot or none
 *     commit    all were debited: the reservations are the debits, and there is nothing left to do
 *     cancel    one refused after all, since somebody came between: the others are given back, and it is a denial
 *
 * The bound. A reservation is a debit, so no limit ever admits more than it may, whatever dies when. Between reserve and
 * cancel, about a round trip, others may be denied what is then given back. Who dies in that time, or gets no answer to a
 * reservation, leaves it debited: under-use of at most one such call, which ends as every debit does, when the bucket has
 * refilled, the window has passed or the lease has run out. That is the time to live of a reservation.
 */
import type { Verdict } from "../../limit/algorithms/verdict.ts";
import type { Draw, LimitStore } from "../../limit/store.ts";
import { slotOf } from "./slot.ts";

/** Draws of one slot, and their places in the whole. */
interface Group {
  readonly places: number[];
  readonly draws: Draw[];
}

/**
 * Decides over all draws.
 * @param keyOf A draw's key in Redis.
 * @param store For single keys.
 * @param together Debits the draws of one slot, all or none.
 */
export async function consumeAcrossSlots(
  draws: readonly Draw[],
  keyOf: (draw: Draw) => string,
  store: LimitStore,
  together: (draws: readonly Draw[]) => Promise<readonly Verdict[]>,
): Promise<readonly Verdict[]> {
  const seen = await peekAll(draws, store);
  if (!seen.every(({ allowed }) => allowed)) return seen;

  const groups = groupsOf(draws, keyOf);
  const reserved = await Promise.allSettled(groups.map((group) => together(group.draws)));
  const verdicts: Verdict[] = [...seen];
  const debited: { readonly draw: Draw; readonly verdict: Verdict; readonly place: number }[] = [];
  let failure: PromiseRejectedResult | undefined;
  for (const [i, outcome] of reserved.entries()) {
    if (outcome.status === "rejected") {
      failure ??= outcome;
      continue;
    }
    const { places, draws: own } = groups[i]!;
    for (const [j, verdict] of outcome.value.entries()) {
      verdicts[places[j]!] = verdict;
      if (verdict.granted > 0) debited.push({ draw: own[j]!, verdict, place: places[j]! });
    }
  }
  if (failure === undefined && debited.length === draws.length) return verdicts;

  await Promise.all(debited.map(({ draw, verdict }) => cancel(draw, verdict, store)));
  if (failure !== undefined) throw failure.reason;
  const after = await peekAll(
    debited.map(({ draw }) => draw),
    store,
  );
  for (const [i, { place }] of debited.entries()) verdicts[place] = after[i]!;
  return verdicts;
}

async function peekAll(draws: readonly Draw[], store: LimitStore): Promise<readonly Verdict[]> {
  return Promise.all(draws.map(async ({ rule, key, cost }) => store.peek(rule, key, cost)));
}

async function cancel({ rule, key }: Draw, verdict: Verdict, store: LimitStore): Promise<void> {
  if (rule.policy.algorithm === "concurrency") await store.release(rule, key, verdict.fence);
  else await store.settle(rule, key, { atUs: verdict.atUs, cost: verdict.granted }, 0);
}

function groupsOf(draws: readonly Draw[], keyOf: (draw: Draw) => string): readonly Group[] {
  const groups = new Map<number, Group>();
  for (const [place, draw] of draws.entries()) {
    const slot = slotOf(keyOf(draw));
    const group = groups.get(slot) ?? { places: [], draws: [] };
    group.places.push(place);
    group.draws.push(draw);
    groups.set(slot, group);
  }
  return [...groups.values()];
}
