/**
 * What one process holds of one key: leases that were debited and are being spent, and the callers that wait for the next one.
 *
 *     caller ─► a lease covers it ──────────────────────────────► admitted, here and now
 *         └───► asks, or waits for whoever is asking ─► lease ──► admitted
 *                                                   └─► denied: everybody of the same cost who was waiting, by one answer
 *
 * At most one question of a key is under way. It asks for what the callers need and `want` on top. A grant of less is all there
 * was: who asked for 1 and got nothing of it is denied, and only the time to wait is asked for; a larger cost is asked for by
 * itself, after everything held was returned, so that nobody is denied what lies idle here. So nobody waits for more than two
 * answers that are not about its own cost alone.
 */
import type { Clock } from "../base/clock.ts";
import type { Emitter } from "../base/emitter.ts";
import type { Verdict } from "../limit/algorithms/verdict.ts";
import { type Answer, isLater, type LimitRule, type LimitStore } from "../limit/store.ts";
import type { LeasePlan } from "./lease-plan.ts";

/** What a leased store tells of, for metrics. */
export interface LeaseEvents {
  /** A lease of `granted` tokens was debited; `asked` were wanted. */
  readonly leased: LeaseEvent & { readonly asked: number };
  /** So many tokens were given back unspent. */
  readonly returned: LeaseEvent;
  /** So many could not be given back, because the store failed: they are missing until they refill. */
  readonly forfeited: LeaseEvent & { readonly error: unknown };
}

/** A lease, or a part of it. */
export interface LeaseEvent {
  readonly limit: string;
  readonly key: string;
  readonly granted: number;
}

/** What all keys of one limit share. */
export interface LeaseContext {
  readonly store: LimitStore;
  readonly clock: Clock;
  readonly events: Emitter<LeaseEvents>;
  readonly plan: LeasePlan;
  /** The rule under which leases are debited. */
  readonly rule: LimitRule;
  /** The capacity that was declared. */
  readonly capacity: number;
  /** Called when a key comes to hold a lease. */
  readonly onHold: (holder: LeaseHolder) => void;
  /** Called with what must be over before the store may be closed. */
  readonly onPending: (work: PromiseLike<unknown>) => void;
}

/** One lease. */
interface Lease {
  readonly atUs: number;
  readonly granted: number;
  left: number;
  /** Whether it has been seen that half of it is spent. */
  isHalfSpent: boolean;
  readonly sentUs: number;
  readonly expiresUs: number;
  /** What the store had left after it, and when it would be full. */
  readonly remaining: number;
  readonly resetAtUs: number;
}

/** Somebody who waits for the answer to a question. */
interface Caller {
  readonly cost: number;
  /** A grant did not cover it: asked for alone. */
  isExact: boolean;
  /** Nothing was left for it, as the store decided: only until when is not known yet. */
  isRefused: boolean;
  outcome: { readonly verdict: Verdict } | { readonly error: unknown } | undefined;
  resolve: (verdict: Verdict) => void;
  reject: (error: unknown) => void;
}

/** A question to the store. */
interface Question {
  readonly cost: number;
  readonly kind: "lease" | "exact" | "peek";
  readonly sentUs: number;
  /** How many callers, from the first, it is asked for. */
  readonly callers: number;
  readonly generation: number;
}

/** One key. */
export class LeaseHolder {
  readonly key: string;
  readonly #context: LeaseContext;
  #leases: Lease[] = [];
  #callers: Caller[] = [];
  #isAsking = false;
  /** How many tokens to ask for beyond what is needed at once. */
  #want = 0;
  /** Until then nothing is asked for beyond need. */
  #exactUntilUs = 0;
  #lastUsedUs = -Infinity;
  /** Rises when the key was reset or blocked: leases from before are not to be spent. */
  #generation = 0;

  constructor(key: string, context: LeaseContext) {
    this.key = key;
    this.#context = context;
  }

  /** Whether nothing is lost by forgetting the key. */
  get isIdle(): boolean {
    return this.#leases.length === 0 && this.#callers.length === 0 && !this.#isAsking;
  }

  /** The tokens that can be spent at `nowUs`. */
  held(nowUs: number): number {
    return this.#leases.reduce((sum, { left, expiresUs }) => (expiresUs > nowUs ? sum + left : sum), 0);
  }

  /** Whether one lease covers `cost`. */
  covers(cost: number, nowUs: number): boolean {
    return this.#leases.some(({ left, expiresUs }) => left >= cost && expiresUs > nowUs);
  }

  /** Spends `cost` of one lease; undefined when none covers it. */
  spend(cost: number, nowUs: number): Verdict | undefined {
    for (const lease of this.#leases) {
      if (lease.left < cost || lease.expiresUs <= nowUs) continue;
      this.#lastUsedUs = nowUs;
      lease.left -= cost;
      // Half is left for the time that the next one is on its way.
      if (2 * lease.left <= lease.granted) this.#onHalfSpent(lease, nowUs);
      return {
        allowed: true,
        never: false,
        remaining: Math.min(this.#context.capacity, lease.remaining + lease.left),
        retryAfterUs: 0,
        resetAtUs: lease.resetAtUs,
        granted: cost,
        atUs: lease.atUs,
        fence: 0,
      };
    }
    return undefined;
  }

  /** Asks the store, or waits for the question that is under way. */
  ask(cost: number, nowUs: number): Answer<Verdict> {
    const { ttlUs } = this.#context.plan;
    // The second call within a ttl is the first sign of demand.
    if (nowUs - this.#lastUsedUs > 2 * ttlUs) this.#want = 0;
    else if (this.#want === 0 && nowUs >= this.#exactUntilUs) this.#want = 1;
    this.#lastUsedUs = nowUs;
    const nobody = (): void => {};
    const flags = { isExact: false, isRefused: false };
    const caller: Caller = { cost, ...flags, outcome: undefined, resolve: nobody, reject: nobody };
    this.#callers.push(caller);
    this.#turn();
    const { outcome } = caller;
    if (outcome === undefined) {
      return new Promise((resolve, reject) => {
        caller.resolve = resolve;
        caller.reject = reject;
      });
    }
    if ("error" in outcome) throw outcome.error;
    return outcome.verdict;
  }

  /** Gives back everything held. */
  giveBack(): Answer<unknown> {
    const leases = this.#leases;
    this.#leases = [];
    const later = leases.map((lease) => this.#settle(lease)).filter(isLater);
    return later.length === 0 ? undefined : Promise.all(later);
  }

  /** The state in the store is about to change: what was debited before is not to be spent, nor given back. */
  forget(): void {
    this.#generation++;
    this.#leases = [];
  }

  /** Like {@link forget}, but what was debited is given back. */
  stop(): Answer<unknown> {
    this.#generation++;
    return this.giveBack();
  }

  /** Gives back what has expired or lies idle. Returns whether anything is still held. */
  sweep(nowUs: number): boolean {
    const isIdle = nowUs - this.#lastUsedUs > this.#context.plan.ttlUs / 2;
    const over = this.#leases.filter(({ expiresUs }) => isIdle || expiresUs <= nowUs);
    if (over.length === 0) return this.#leases.length > 0;
    this.#leases = this.#leases.filter((lease) => !over.includes(lease));
    for (const lease of over) {
      this.#want = Math.min(this.#want, lease.granted - lease.left);
      void this.#settle(lease);
    }
    return this.#leases.length > 0;
  }

  #onHalfSpent(lease: Lease, nowUs: number): void {
    if (lease.left === 0) this.#leases.splice(this.#leases.indexOf(lease), 1);
    if (!lease.isHalfSpent) {
      lease.isHalfSpent = true;
      this.#grow(lease, nowUs);
    }
    const isLast = this.#leases.length <= 1;
    if (isLast && !this.#isAsking && this.#want > 1 && nowUs >= this.#exactUntilUs) this.#turn(true);
  }

  /** Asks as long as somebody waits; at once while the store answers at once. */
  #turn(isAhead: boolean = false): void {
    let ahead = isAhead;
    while (!this.#isAsking && (this.#callers.length > 0 || ahead)) {
      ahead = false;
      this.#isAsking = true;
      const question = this.#question();
      try {
        const answer = this.#put(question);
        if (isLater(answer)) {
          this.#context.onPending(
            answer.then(
              (verdict) => {
                this.#onAnswer(question, verdict);
                this.#turn();
              },
              (error: unknown) => {
                this.#onFailure(question, error);
                this.#turn();
              },
            ),
          );
          return;
        }
        this.#onAnswer(question, answer);
      } catch (error) {
        this.#onFailure(question, error);
      }
    }
  }

  #question(): Question {
    const { plan, clock } = this.#context;
    const head = this.#callers[0];
    const common = { sentUs: clock.nowUs(), callers: this.#callers.length, generation: this.#generation };
    if (head?.isRefused) return { ...common, cost: head.cost, kind: "peek" };
    if (head !== undefined && (head.isExact || head.cost > plan.most))
      return { ...common, cost: head.cost, kind: "exact" };
    const needed = this.#callers.reduce((sum, { cost }) => sum + cost, 0);
    const cost = Math.min(needed + this.#want, Math.max(plan.most, needed));
    const isExact = head !== undefined && this.#callers.length === 1 && cost === head.cost;
    return { ...common, cost, kind: isExact ? "exact" : "lease" };
  }

  #put({ cost, kind }: Question): Answer<Verdict> {
    const { store, rule } = this.#context;
    if (kind === "lease") return store.consumeUpTo(rule, this.key, cost);
    if (kind === "peek") return store.peek(rule, this.key, cost);
    if (this.#leases.length === 0) return store.consume(rule, this.key, cost);
    const returned = this.giveBack();
    if (!isLater(returned)) return store.consume(rule, this.key, cost);
    return returned.then(() => store.consume(rule, this.key, cost));
  }

  #onAnswer(question: Question, verdict: Verdict): void {
    this.#isAsking = false;
    if (question.kind === "peek") this.#onPeek(verdict);
    else if (!verdict.allowed) this.#onDenial(question, verdict);
    else if (question.kind === "exact") tell(this.#callers.shift()!, { verdict });
    else this.#onLease(question, verdict);
  }

  /** Serves the callers from a lease, first come, first served, and keeps the rest. */
  #onLease(question: Question, verdict: Verdict): void {
    const { plan, clock, events, rule, capacity } = this.#context;
    const { granted, atUs, remaining, resetAtUs } = verdict;
    const { sentUs, cost: asked } = question;
    events.emit("leased", { limit: rule.name, key: this.key, granted, asked });
    const times = { sentUs, expiresUs: sentUs + plan.ttlUs, resetAtUs };
    const lease: Lease = { atUs, granted, left: granted, isHalfSpent: false, remaining, ...times };
    if (granted < asked) this.#goExact();
    const callers = this.#callers;
    this.#callers = [];
    // As with an answer to one of them alone, they are admitted when the store decided, however late they hear of it.
    for (const [place, caller] of callers.entries()) {
      if (caller.cost > lease.left) {
        if (caller.cost > 1) caller.isExact ||= place === 0;
        else caller.isRefused = granted < asked && place < question.callers;
        this.#callers.push(caller);
        continue;
      }
      lease.left -= caller.cost;
      const left = Math.min(capacity, remaining + lease.left);
      tell(caller, { verdict: { ...verdict, granted: caller.cost, remaining: left } });
    }
    const nowUs = clock.nowUs();
    // After a reset or a block it cannot be known on which side of it the debit was, so it is neither spent nor given back.
    if (question.generation !== this.#generation) return;
    if (lease.left === 0) this.#grow(lease, nowUs);
    else if (lease.expiresUs <= nowUs) void this.#settle(lease);
    else {
      this.#leases.push(lease);
      this.#context.onHold(this);
    }
  }

  /** Denies those for whom nothing was left. Should there be something by now, they may ask again at once. */
  #onPeek(verdict: Verdict): void {
    const refused = this.#callers.filter(({ isRefused }) => isRefused);
    this.#callers = this.#callers.filter(({ isRefused }) => !isRefused);
    const retryAfterUs = Math.max(1, verdict.retryAfterUs);
    const denial = verdict.allowed ? { ...verdict, allowed: false, remaining: 0, retryAfterUs } : verdict;
    for (const caller of refused) tell(caller, { verdict: denial });
  }

  /** Denies those who waited with the cost that was denied. */
  #onDenial({ kind, cost, callers }: Question, verdict: Verdict): void {
    this.#goExact();
    const denied = kind === "exact" ? cost : 1;
    const asked = this.#callers.slice(0, callers);
    const later = this.#callers.slice(callers);
    this.#callers = [...asked.filter((caller) => caller.cost !== denied), ...later];
    const head = asked[0];
    if (head !== undefined && head.cost !== denied) head.isExact = true;
    for (const caller of asked) if (caller.cost === denied) tell(caller, { verdict });
  }

  #onFailure({ callers }: Question, error: unknown): void {
    this.#isAsking = false;
    this.#goExact();
    // A question that nobody waited for fails unheard: whoever comes next asks, and is told.
    for (const caller of this.#callers.splice(0, callers)) tell(caller, { error });
  }

  #goExact(): void {
    this.#want = 0;
    this.#exactUntilUs = this.#context.clock.nowUs() + this.#context.plan.ttlUs;
  }

  /** The next lease is larger when half of this one was spent in a quarter of its life. */
  #grow({ sentUs, granted }: Lease, nowUs: number): void {
    const { ttlUs, most } = this.#context.plan;
    const isSoon = nowUs - sentUs <= ttlUs / 4;
    if (isSoon && granted >= this.#want && nowUs >= this.#exactUntilUs)
      this.#want = Math.min(most, 2 * Math.max(1, this.#want));
  }

  #settle({ atUs, left }: Lease): Answer<unknown> {
    if (left === 0) return undefined;
    const { store, rule, events } = this.#context;
    const event = { limit: rule.name, key: this.key, granted: left };
    const onReturn = (): void => void events.emit("returned", event);
    // They were debited and never spent, which keeps to the bound; they refill.
    const onFailure = (error: unknown): void => void events.emit("forfeited", { ...event, error });
    try {
      const answer = store.settle(rule, this.key, { atUs, cost: left }, 0);
      if (!isLater(answer)) return onReturn();
      const settled = answer.then(onReturn, onFailure);
      this.#context.onPending(settled);
      return settled;
    } catch (error) {
      return onFailure(error);
    }
  }
}

function tell(caller: Caller, outcome: NonNullable<Caller["outcome"]>): void {
  caller.outcome = outcome;
  if ("verdict" in outcome) caller.resolve(outcome.verdict);
  else caller.reject(outcome.error);
}
