/**
 * Leases: a process debits a slice of the budget in advance and spends it without asking, so that a hot key costs the store a
 * few questions a second instead of one for each admission.
 *
 * Never one admission too many. Everything spent was debited before; and because a token is spent up to `ttl` later than it was
 * debited, it is debited under a slightly stricter rule (`lease-plan.ts` proves it), so that in any window the fleet admits no
 * more than the limit declares. The price is under-use:
 *
 * - a sliding window is used to P / (P + ttl), 98 % by default; a token bucket to its full rate, with a burst smaller by r·ttl;
 * - what a process holds and does not spend is missing for others until it is returned: on idling for half a ttl, when the ttl
 *   ends, on `close()`, and before a cost is denied that the returned tokens could have paid for. A process that is killed
 *   forfeits at most two leases for each key.
 *
 * The size of a lease follows demand. The first call of a key asks for its own cost only. As long as half of a lease is spent
 * in a quarter of its life the next one is twice as large, at most `most` and an eighth of the capacity; one that was not used up
 * is followed by one of what was used. When the store grants less than was asked, or denies, the key goes back to exact calls for a ttl: so
 * near empty the order of admissions is that of the store. Callers that come while a question is under way wait for it and
 * share in its answer: of k denials one is asked for.
 *
 * All processes must declare the limit with the same leases. One that asks the store directly, under the rule as declared, widens
 * the bound by what the rate yields in a ttl. `remaining` is what is held here and what the store had left when last asked.
 *
 * After `block` other processes go on spending what they hold, and after `reset` they may return what was debited before it:
 * both end with the ttl.
 */
import { type Clock, isClock, systemClock, type Timer } from "../base/clock.ts";
import { Emitter } from "../base/emitter.ts";
import { boolean, custom, durationMs, integer, number, resolveOptions } from "../base/options.ts";
import type { Charge, Verdict } from "../limit/algorithms/verdict.ts";
import { type Answer, type Draw, isLater, type LimitRule, type LimitStore } from "../limit/store.ts";
import { requireBelow, standsOn } from "./ladder.ts";
import { type LeaseContext, type LeaseEvents, LeaseHolder } from "./lease-holder.ts";
import { type LeasePlan, leasePlan } from "./lease-plan.ts";

/** The options of {@link leased}. */
export interface LeaseOptions {
  /**
   * How long a lease may be spent at the most, in milliseconds: from 2 to a minute; default 1 000. With `strict` it is no longer
   * than `guardPart` of the period (sliding window) or of the time the bucket takes to fill (token bucket).
   */
  readonly ttlMs?: number;
  /** The most tokens of a lease: from 2 to 10^9; default 100 000. Never more than an eighth of the capacity. */
  readonly most?: number;
  /**
   * Whether leases are debited under a stricter rule, so that what is spent keeps to the limit as declared; default true. Without
   * it the limit holds for what is debited, and a window of what is spent may hold what is debited in a window longer by the ttl.
   */
  readonly strict?: boolean;
  /** The part of the rate (sliding window) or of the burst (token bucket) given up for being strict: 0.001 to 0.5; default 0.02. */
  readonly guardPart?: number;
  /** Of how many keys of each limit leases may be held: from 1 to 1 million; default 10 000. Others are asked for exactly. */
  readonly maxKeys?: number;
  /** Where time comes from; default the system's. For tests. */
  readonly clock?: Clock;
}

const spec = {
  ttlMs: durationMs({ default: 1000, min: 2, max: 60_000 }),
  most: integer({ default: 100_000, min: 2, max: 1_000_000_000 }),
  strict: boolean({ default: true }),
  guardPart: number({ default: 0.02, min: 0.001, max: 0.5 }),
  maxKeys: integer({ default: 10_000, min: 1, max: 1_000_000 }),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
};

/**
 * Makes a store that spends leases of another one. For limits of a high rate whose keys are hot: with 100/s there is little to
 * lease, and a limit that it would not pay for, or that cannot be leased (`fixed-window`, `concurrency`), is asked for exactly.
 * @throws `invalid_option`; also when `store` is `guarded` already, which goes around this one.
 *
 * @example
 *     const store = guarded(leased(redis(client)));
 *     const ingest = limit("ingest", "200000/s", { algorithm: "token-bucket", store });
 */
export function leased(store: LimitStore, options?: LeaseOptions): LeasedStore {
  requireBelow("leased", store);
  return new LeasedStore(store, resolveOptions("leased store", spec, options));
}

/** One limit. */
interface Leasing {
  /** The policy as declared. */
  readonly declared: string;
  /** The rule to ask the store by: that of the leases, or the one declared when there are none. */
  readonly rule: LimitRule;
  /** Undefined when the limit is not leased. */
  readonly plan: LeasePlan | undefined;
  /** By key, the one not used for longest first, more or less. */
  readonly holders: Map<string, LeaseHolder>;
  /** Those that hold something. */
  readonly holding: Set<LeaseHolder>;
  readonly context: LeaseContext | undefined;
  timer: Timer | undefined;
  /** Set when another rate has taken its place: what still arrives is given back. */
  isOver: boolean;
}

/** How many keys are looked at for one to forget. */
const examined = 8;

/** A store that spends leases. Made by {@link leased}. */
export class LeasedStore implements LimitStore {
  readonly #store: LimitStore;
  readonly #options: Required<LeaseOptions>;
  readonly #events = new Emitter<LeaseEvents>();
  readonly #leasings = new Map<string, Leasing>();
  readonly #leasingOfRule = new WeakMap<LimitRule, Leasing>();
  readonly #pending = new Set<PromiseLike<unknown>>();
  #isClosing = false;

  /** @internal */
  constructor(store: LimitStore, options: Required<LeaseOptions>) {
    this.#store = store;
    this.#options = options;
    standsOn(this, "leased");
  }

  /** Listens for leases, returns and losses; returns the function that stops it. */
  on<Name extends keyof LeaseEvents>(name: Name, listener: (event: LeaseEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  consume(rule: LimitRule, key: string, cost: number): Answer<Verdict> {
    const leasing = this.#leasingOf(rule);
    const holder = leasing.holders.get(key) ?? this.#hold(leasing, key);
    if (holder === undefined || this.#isClosing) return this.#store.consume(leasing.rule, key, cost);
    const nowUs = this.#options.clock.nowUs();
    return holder.spend(cost, nowUs) ?? holder.ask(cost, nowUs);
  }

  consumeUpTo(rule: LimitRule, key: string, most: number): Answer<Verdict> {
    const leasing = this.#leasingOf(rule);
    const held = leasing.holders.get(key)?.held(this.#options.clock.nowUs()) ?? 0;
    // What is held is part of what is admitted now; the store, asked alone, would not know of it.
    if (held === 0) return this.#store.consumeUpTo(leasing.rule, key, most);
    const returned = leasing.holders.get(key)!.giveBack();
    if (!isLater(returned)) return this.#store.consumeUpTo(leasing.rule, key, most);
    return returned.then(() => this.#store.consumeUpTo(leasing.rule, key, most));
  }

  consumeAll(draws: readonly Draw[]): Answer<readonly Verdict[]> {
    const nowUs = this.#options.clock.nowUs();
    const own = draws.map(({ rule, key, cost }) => ({ rule: this.#leasingOf(rule).rule, key, cost }));
    const holders = draws.map(({ rule, key }) => this.#leasingOf(rule).holders.get(key));
    if (holders.every((holder, i) => holder?.covers(draws[i]!.cost, nowUs)))
      return holders.map((holder, i) => holder!.spend(draws[i]!.cost, nowUs)!);
    const returned = holders.map((holder) => holder?.giveBack()).filter(isLater);
    if (returned.length === 0) return this.#store.consumeAll(own);
    return Promise.all(returned).then(() => this.#store.consumeAll(own));
  }

  peek(rule: LimitRule, key: string, cost: number): Answer<Verdict> {
    const leasing = this.#leasingOf(rule);
    const held = leasing.holders.get(key)?.held(this.#options.clock.nowUs()) ?? 0;
    const answer = this.#store.peek(leasing.rule, key, cost);
    if (held === 0) return answer;
    const both = (verdict: Verdict): Verdict => {
      const remaining = Math.min(rule.policy.capacity, verdict.remaining + held);
      const allowed = remaining >= cost;
      return { ...verdict, allowed, remaining, retryAfterUs: allowed ? 0 : verdict.retryAfterUs };
    };
    return isLater(answer) ? answer.then(both) : both(answer);
  }

  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Answer<void> {
    return this.#store.settle(this.#leasingOf(rule).rule, key, charge, actual);
  }

  block(rule: LimitRule, key: string, forUs: number): Answer<void> {
    const leasing = this.#leasingOf(rule);
    void leasing.holders.get(key)?.stop();
    return this.#store.block(leasing.rule, key, forUs);
  }

  renew(rule: LimitRule, key: string, fence: number): Answer<number | undefined> {
    return this.#store.renew(rule, key, fence);
  }

  release(rule: LimitRule, key: string, fence: number): Answer<boolean> {
    return this.#store.release(rule, key, fence);
  }

  reset(rule: LimitRule, key: string): Answer<void> {
    const leasing = this.#leasingOf(rule);
    leasing.holders.get(key)?.forget();
    return this.#store.reset(leasing.rule, key);
  }

  /** Gives back what is held, once the questions under way are answered, and closes the store that is leased from. */
  async close(): Promise<void> {
    this.#isClosing = true;
    for (const leasing of this.#leasings.values()) this.#returnAll(leasing);
    // A question that is answered may bring a lease, which is then given back, or lead to the next question.
    while (this.#pending.size > 0) await Promise.all(this.#pending);
    await this.#store.close();
  }

  #returnAll({ holding, timer }: Leasing): void {
    timer?.cancel();
    for (const holder of holding) void holder.giveBack();
    holding.clear();
  }

  #leasingOf(rule: LimitRule): Leasing {
    return this.#leasingOfRule.get(rule) ?? this.#openLeasing(rule);
  }

  #openLeasing(rule: LimitRule): Leasing {
    const declared = JSON.stringify(rule.policy);
    const known = this.#leasings.get(rule.name);
    const leasing = known?.declared === declared ? known : this.#newLeasing(rule, declared);
    // Another rate of the limit: what was debited under the old one is given back, and debited anew.
    if (known !== undefined && known !== leasing) {
      known.isOver = true;
      this.#returnAll(known);
    }
    this.#leasings.set(rule.name, leasing);
    this.#leasingOfRule.set(rule, leasing);
    return leasing;
  }

  #newLeasing(rule: LimitRule, declared: string): Leasing {
    const { ttlMs, ...terms } = this.#options;
    const plan = leasePlan(rule.policy, { ...terms, ttlUs: ttlMs * 1000 });
    const own = plan === undefined ? rule : Object.freeze({ name: rule.name, policy: plan.debitPolicy });
    const holding = new Set<LeaseHolder>();
    const context = plan && {
      store: this.#store,
      clock: this.#options.clock,
      events: this.#events,
      plan,
      rule: own,
      capacity: rule.policy.capacity,
      onHold: (holder: LeaseHolder) => this.#onHold(leasing, holder),
      onPending: (work: PromiseLike<unknown>) => this.#await(work),
    };
    const parts = { declared, rule: own, plan, holders: new Map<string, LeaseHolder>(), holding, context };
    const leasing: Leasing = { ...parts, timer: undefined, isOver: false };
    return leasing;
  }

  /** A new key, in the place of one that holds nothing when there are too many. */
  #hold({ holders, context }: Leasing, key: string): LeaseHolder | undefined {
    if (context === undefined) return undefined;
    for (let left = examined; holders.size >= this.#options.maxKeys; left--) {
      if (left === 0) return undefined;
      const [oldest, holder] = holders.entries().next().value!;
      holders.delete(oldest);
      if (!holder.isIdle) holders.set(oldest, holder);
    }
    const holder = new LeaseHolder(key, context);
    holders.set(key, holder);
    return holder;
  }

  #onHold(leasing: Leasing, holder: LeaseHolder): void {
    if (this.#isClosing || leasing.isOver) {
      void holder.giveBack();
      return;
    }
    leasing.holding.add(holder);
    this.#watch(leasing);
  }

  /** One timer for each limit, and only while something is held: a process that holds nothing can end. */
  #watch(leasing: Leasing): void {
    const { clock } = this.#options;
    leasing.timer ??= clock.setTimer(() => {
      leasing.timer = undefined;
      const nowUs = clock.nowUs();
      for (const holder of leasing.holding) if (!holder.sweep(nowUs)) leasing.holding.delete(holder);
      if (leasing.holding.size > 0) this.#watch(leasing);
    }, leasing.plan!.ttlUs / 2);
  }

  #await(work: PromiseLike<unknown>): void {
    this.#pending.add(work);
    const over = (): void => void this.#pending.delete(work);
    void work.then(over, over);
  }
}
