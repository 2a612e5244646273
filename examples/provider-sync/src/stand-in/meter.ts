/**
 * A strict sliding-window meter: the judge of the demo.
 *
 * For every data type it looks at every window (t − P, t], half open as in the sliding-window log of the
 * textbooks: a request exactly one period old no longer counts. The count over all t is largest at some
 * arrival, so counting at each arrival finds the worst window of all. Refused requests count too: an API
 * that bans does not forgive a request because it answered it with 429.
 *
 * The meter is pure: time is an argument. It shares no code with the limiter it judges.
 */

/** What one data type allows: `limit` requests in any window of `periodUs` microseconds. */
export interface MeterLimit {
  readonly limit: number;
  readonly periodUs: number;
}

/** One request as it reached the API. */
export interface MeterRequest {
  readonly dataType: string;
  readonly provider: string;
  /** The caller's own number of this request within its provider and data type, from 1. */
  readonly number: number;
  /** The `Idempotency-Key` of the request; the same key twice is one request sent twice. */
  readonly key: string;
}

/** A request with what the meter said to it. */
export interface Arrival {
  readonly atUs: number;
  readonly provider: string;
  readonly number: number;
  readonly key: string;
  /** Requests in the window that ends with this one, itself included. */
  readonly inWindow: number;
  /** True when the answer was 429. */
  readonly refused: boolean;
  /** True when a request with this key had been admitted before. */
  readonly repeat: boolean;
}

/** The answer of the meter to one request. */
export interface Verdict extends Arrival {
  readonly limit: number;
  /** 0 when admitted; otherwise the time until the window has room again, in microseconds. */
  readonly retryAfterUs: number;
}

/** A stretch in which the process that measures did not run, so its times of arrival may be late. */
export interface Stall {
  readonly fromUs: number;
  readonly untilUs: number;
}

/** Everything the meter knows about one data type. */
export interface DataTypeReport {
  readonly dataType: string;
  readonly limit: number;
  readonly periodUs: number;
  readonly requests: number;
  /** Keys admitted at least once. */
  readonly distinct: number;
  readonly refused: number;
  /** Admitted requests whose key had been admitted before. */
  readonly repeats: number;
  /** Most requests ever in one window. */
  readonly worstWindow: number;
  /** Windows (one per arrival) with more than `limit` requests. */
  readonly windowsOver: number;
  /** Those of `windowsOver` that touch a stall of the meter itself: listed apart, never taken away. */
  readonly windowsOverInStall: number;
  readonly gapMinUs: number | null;
  readonly gapMaxUs: number | null;
  /** For each provider: did the admitted requests come in the order of their numbers? */
  readonly orderKept: Readonly<Record<string, boolean>>;
  readonly arrivals: readonly Arrival[];
}

interface State {
  readonly limit: MeterLimit;
  readonly arrivals: Arrival[];
  readonly admitted: Set<string>;
  /** Index of the oldest arrival that is still inside the window of the newest. */
  oldest: number;
}

/**
 * Counts the requests of each data type. Keeps every arrival (some hundred bytes each) until `reset`.
 *
 * @example
 * const meter = new Meter({ users: { limit: 2, periodUs: 1_000_000 } });
 * meter.arrive({ dataType: "users", provider: "aws", number: 1, key: "a" }, 0).refused; // false
 */
export class Meter {
  readonly #states: Map<string, State>;
  readonly #limits: Readonly<Record<string, MeterLimit>>;

  constructor(limits: Readonly<Record<string, MeterLimit>>) {
    this.#limits = limits;
    this.#states = freshStates(limits);
  }

  /** True when the meter has a limit for this data type; `arrive` throws for any other. */
  knows(dataType: string): boolean {
    return this.#states.has(dataType);
  }

  /** Notes a request at `nowUs` (microseconds, never going back) and says whether it is admitted. */
  arrive(request: MeterRequest, nowUs: number): Verdict {
    const state = this.#states.get(request.dataType);
    if (state === undefined) throw new RangeError(`no limit for data type ${request.dataType}`);
    const { arrivals, admitted, limit } = state;
    const windowStart = nowUs - limit.periodUs;
    while (state.oldest < arrivals.length && arrivals[state.oldest]!.atUs <= windowStart) state.oldest += 1;
    const inWindow = arrivals.length - state.oldest + 1;
    const refused = inWindow > limit.limit;
    const arrival: Arrival = {
      atUs: nowUs,
      provider: request.provider,
      number: request.number,
      key: request.key,
      inWindow,
      refused,
      repeat: admitted.has(request.key),
    };
    arrivals.push(arrival);
    if (!refused) admitted.add(request.key);
    // This request counts although it was refused: room comes when the limit-th newest leaves the window.
    const retryAfterUs = refused ? arrivals[arrivals.length - limit.limit]!.atUs + limit.periodUs - nowUs : 0;
    return { ...arrival, limit: limit.limit, retryAfterUs };
  }

  /** What was seen since the start or the last reset; `stalls` are those of the process that measured. */
  report(stalls: readonly Stall[] = []): DataTypeReport[] {
    return [...this.#states].map(([dataType, state]) => reportOf(dataType, state, stalls));
  }

  /** Forgets everything. */
  reset(): void {
    for (const [dataType, state] of freshStates(this.#limits)) this.#states.set(dataType, state);
  }
}

function freshStates(limits: Readonly<Record<string, MeterLimit>>): Map<string, State> {
  const entries = Object.entries(limits).map(([name, limit]): [string, State] => [
    name,
    { limit, arrivals: [], admitted: new Set(), oldest: 0 },
  ]);
  return new Map(entries);
}

function reportOf(dataType: string, state: State, stalls: readonly Stall[]): DataTypeReport {
  const { arrivals, limit } = state;
  const over = arrivals.filter((arrival) => arrival.inWindow > limit.limit);
  const touched = over.filter((arrival) =>
    stalls.some((stall) => stall.fromUs <= arrival.atUs && stall.untilUs > arrival.atUs - limit.periodUs),
  );
  const gaps = arrivals.slice(1).map((arrival, index) => arrival.atUs - arrivals[index]!.atUs);
  return {
    dataType,
    limit: limit.limit,
    periodUs: limit.periodUs,
    requests: arrivals.length,
    distinct: state.admitted.size,
    refused: arrivals.filter((arrival) => arrival.refused).length,
    repeats: arrivals.filter((arrival) => arrival.repeat && !arrival.refused).length,
    worstWindow: arrivals.reduce((worst, arrival) => Math.max(worst, arrival.inWindow), 0),
    windowsOver: over.length,
    windowsOverInStall: touched.length,
    gapMinUs: gaps.length === 0 ? null : gaps.reduce((a, b) => Math.min(a, b)),
    gapMaxUs: gaps.length === 0 ? null : gaps.reduce((a, b) => Math.max(a, b)),
    orderKept: orderOf(arrivals),
    arrivals: [...arrivals],
  };
}

/** Admitted requests of a provider must count upwards; the same request sent again (same key) may repeat its number. */
function orderOf(arrivals: readonly Arrival[]): Record<string, boolean> {
  const last = new Map<string, Arrival>();
  const kept: Record<string, boolean> = {};
  for (const arrival of arrivals) {
    if (arrival.refused) continue;
    const before = last.get(arrival.provider);
    const inOrder =
      before === undefined ||
      arrival.number > before.number ||
      (arrival.repeat && arrival.key === before.key);
    kept[arrival.provider] = (kept[arrival.provider] ?? true) && inOrder;
    last.set(arrival.provider, arrival);
  }
  return kept;
}
