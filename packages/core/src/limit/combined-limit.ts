import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import { type AcquireOptions, asWanted, readWaitTerms, type TryOptions } from "./acquire-options.ts";
import { Budget, type Reply, type Timing } from "./budget.ts";
import { type Decision, decisionOf, noneViolated, RateLimitExceeded } from "./decision.ts";
import { Group, type GroupVerdict, type Part } from "./group.ts";
import { Lines } from "./lines.ts";
import { notSettleable, Reservation, requireActual } from "./reservation.ts";
import { Slot } from "./slot.ts";
import { type Answer, whenAnswered } from "./store.ts";

/** One limit in {@link all}: a limit or a key of one, by itself for cost 1. */
export type CombinedPart<When extends Timing = Timing> =
  | Budget<When>
  | { readonly limit: Budget<When>; readonly cost?: number };

/**
 * The answer of several limits to one request. `remaining` is how many more requests like this one would be admitted now;
 * `retryAfterMs` is when the whole passes; `violated` names every limit that refused.
 */
export interface CombinedDecision<When extends Timing = Timing>
  extends Decision,
    Disposable,
    AsyncDisposable {
  /** What each limit said by itself, in the order of the limits; a `Slot` from one of concurrency. */
  readonly parts: readonly Decision[];
  /** Gives back the slots among the parts; true when all of them were still held. Budgets of rates stay debited. */
  release(): Reply<When, boolean>;
}

/** The most callers that wait for one combined limit. */
const waitersMax = 10_000;

/**
 * Combines limits, so that a request takes from all of them or from none: one atomic decision in the store.
 *
 * @param parts Limits or keys of them, each with its cost. In one store; limits in the process may have different ones.
 *   Naming a budget twice adds its costs up.
 * @throws `invalid_option`, `invalid_cost`.
 *
 * @example
 *     const decision = all(perUser.for("ada"), perTenant.for("acme"), { limit: tokens, cost: 800 }).tryAcquire();
 *     if (!decision.allowed) console.log(decision.violated, decision.retryAfterMs);
 */
export function all<When extends Timing>(...parts: readonly CombinedPart<When>[]): CombinedLimit<When> {
  return new CombinedLimit<When>(new Group(parts.map(readPart)));
}

/** Several limits as one; made by {@link all}. Cheap to make for a single request. */
export class CombinedLimit<When extends Timing = Timing> {
  readonly #group: Group;
  readonly #budget: Budget<When>;
  #lines: Lines<GroupVerdict> | undefined;

  /** @internal */
  constructor(group: Group) {
    this.#group = group;
    this.#budget = new Budget<When>(group.gate, "");
  }

  /** Takes from all limits now, or from none. @throws `rate_limited` on a denial, with `{ throws: true }`. */
  tryAcquire(options?: TryOptions): Reply<When, CombinedDecision<When>> {
    return this.#reply(() =>
      whenAnswered(this.#group.ask(), (verdict) => asWanted(this.#decision(verdict), options)),
    );
  }

  /**
   * Waits until all limits admit it together. First come, first served among those who wait on this very object; they do
   * not stand in the lines of the single limits, nor of another combination of them.
   * @throws What `KeyedLimit.acquire` throws.
   */
  async acquire(options?: AcquireOptions): Promise<CombinedDecision<When>> {
    const decision = this.#decision(await this.#wait(options));
    if (options?.throws === true && !decision.allowed) throw new RateLimitExceeded(decision);
    return decision;
  }

  /** What `tryAcquire` would answer now; takes nothing. With limits in a store far away, each is asked by itself. */
  peek(): Reply<When, CombinedDecision<When>> {
    return this.#reply(() => whenAnswered(this.#group.peek(), (verdict) => this.#dressed(verdict)));
  }

  /** Takes from all limits now, or from none, and lets each debit be corrected later; waits for it if given options. */
  reserve(): Reply<When, CombinedReservation<When>>;
  reserve(options: AcquireOptions): Promise<CombinedReservation<When>>;
  reserve(
    options?: AcquireOptions,
  ): Reply<When, CombinedReservation<When>> | Promise<CombinedReservation<When>> {
    const reserved = (verdict: GroupVerdict): CombinedReservation<When> =>
      new CombinedReservation<When>(this.#group, verdict, this.#decision(verdict));
    if (options === undefined) return this.#reply(() => whenAnswered(this.#group.ask(), reserved));
    return this.#wait(options).then((verdict) => {
      const reservation = reserved(verdict);
      if (options.throws === true && !reservation.allowed) throw new RateLimitExceeded(reservation.decision);
      return reservation;
    });
  }

  async #wait(options: AcquireOptions | undefined): Promise<GroupVerdict> {
    const terms = readWaitTerms(options);
    const group = this.#group;
    group.requireOpen();
    group.requireAdmissible();
    const { clock, signals } = group.gate;
    this.#lines ??= new Lines({ limit: group.name, source: group, clock, maxWaiters: waitersMax });
    return this.#lines.wait("", 1, { ...terms, onWait: signals.waiting(group.name, "", 1) });
  }

  #decision(verdict: GroupVerdict): CombinedDecision<When> {
    const decision = this.#dressed(verdict);
    for (const [i, part] of decision.parts.entries()) {
      // A limit that would have passed was neither debited nor to blame.
      if (decision.allowed || !part.allowed) this.#group.members[i]!.gate.signals.decided(part);
    }
    return decision;
  }

  #dressed(verdict: GroupVerdict): CombinedDecision<When> {
    const { members, name } = this.#group;
    const parts = members.map(({ gate, key, cost, drawIndex }, i): Decision => {
      const part = verdict.parts[i]!;
      // Parts on the same slots hold one lease together: the first of them has it.
      const isFirst = members.findIndex((member) => member.drawIndex === drawIndex) === i;
      if (part.fence > 0 && isFirst) return new Slot<When>(gate, key, cost, part);
      return decisionOf(part, { limit: gate.name, key, cost });
    });
    const slots = parts.filter((part): part is Slot<When> => part instanceof Slot);
    const refusing = parts.filter(({ allowed }) => !allowed).map(({ limit }) => limit);
    const release = (): Reply<When, boolean> => this.#reply(() => releaseAll(slots));
    return {
      ...decisionOf(verdict, { limit: name, key: "", cost: 1 }),
      violated: refusing.length === 0 ? noneViolated : [...new Set(refusing)],
      parts,
      release,
      [Symbol.dispose]: () => {
        for (const slot of slots) slot[Symbol.dispose]();
      },
      [Symbol.asyncDispose]: async () => {
        await release();
      },
    };
  }

  #reply<Value>(call: () => Answer<Value>): Reply<When, Value> {
    return this.#budget.reply(call);
  }
}

/** The debits of one request on several limits, which can still be corrected. Once. */
export class CombinedReservation<When extends Timing = Timing> {
  /** The answer: what was reserved, or why not. */
  readonly decision: CombinedDecision<When>;
  readonly #group: Group;
  /** One for each limit that keeps a rate; undefined once they are settled, or when nothing was debited. */
  #reservations: readonly (Reservation<When> | undefined)[] | undefined;

  /** @internal */
  constructor(group: Group, verdict: GroupVerdict, decision: CombinedDecision<When>) {
    this.decision = decision;
    this.#group = group;
    if (!verdict.allowed) return;
    this.#reservations = group.members.map(({ gate, key, cost }, i) => {
      const part = { ...verdict.parts[i]!, granted: cost };
      return part.fence > 0
        ? undefined
        : new Reservation<When>({ gate, key, verdict: part, decision: decision.parts[i]! });
    });
  }

  /** Whether all limits were debited. */
  get allowed(): boolean {
    return this.decision.allowed;
  }

  /**
   * Corrects the debit of each limit to what was used, see `Reservation.settle`, and gives back the slots.
   * @param actuals A whole number of at least 0 for each limit, in their order; that of a concurrency limit is not read.
   * @throws `invalid_cost`; `not_settleable` when it was settled or cancelled before, or never admitted.
   */
  settle(actuals: readonly number[]): Reply<When, void> {
    return new Budget<When>(this.#group.gate, "").reply(() => {
      const { members, name } = this.#group;
      if (!Array.isArray(actuals) || actuals.length !== members.length) {
        const got = describeValue(actuals);
        throw new SluiceError("invalid_cost", `settle: expected ${members.length} numbers, got ${got}`);
      }
      const reservations = this.#reservations;
      if (reservations === undefined) throw notSettleable(name);
      for (const [i, each] of reservations.entries()) if (each !== undefined) requireActual(actuals[i]!);
      this.#reservations = undefined;
      const settled = reservations.map((each, i) => each?.settle(actuals[i]!) as Answer<void> | undefined);
      return allAnswered([...settled, this.decision.release() as Answer<boolean>]);
    });
  }

  /** Gives all of it back. Does nothing for a reservation that was denied. @throws `not_settleable`, as `settle`. */
  cancel(): Reply<When, void> {
    return this.allowed
      ? this.settle(this.#group.members.map(() => 0))
      : new Budget<When>(this.#group.gate, "").reply(() => {});
  }

  /** Cancels what was neither settled nor cancelled when `await using` leaves its block. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#reservations !== undefined) await this.cancel();
  }
}

function readPart<When extends Timing>(part: CombinedPart<When>): Part {
  if (part instanceof Budget) return { limit: part, cost: 1 };
  const { limit, cost = 1 } = (part ?? {}) as { limit?: unknown; cost?: number };
  if (limit instanceof Budget) return { limit, cost };
  const got = describeValue(part);
  throw new SluiceError("invalid_option", `all: expected limits or {limit, cost}, got ${got}`);
}

function releaseAll(slots: readonly Slot[]): Answer<boolean> {
  const released = slots.map((slot) => slot.release() as Answer<boolean>);
  if (!released.some((each) => each instanceof Promise)) return released.every(Boolean);
  return Promise.all(released).then((all) => all.every(Boolean));
}

function allAnswered(answers: readonly (Answer<unknown> | undefined)[]): Answer<void> {
  const later = answers.filter((answer) => answer instanceof Promise);
  return later.length === 0 ? undefined : Promise.all(later).then(() => {});
}
