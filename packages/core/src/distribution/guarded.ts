/**
 * Keeps a limit answering while its store is slow, away or broken.
 *
 * Each operation has a deadline, and a circuit breaker spares the store and the callers once it has failed a few times in a row:
 * then nobody waits for the deadline any more, and single probes find out when the store is back. Too late is as bad as an
 * error; a denial is a success. What the store cannot answer is answered by the fail mode of the limit, and says so:
 *
 * | `failMode` | while the store is away | the fleet of M processes then admits at the most |
 * |---|---|---|
 * | `local` | each process keeps the limit divided by `instances`, by the same algorithm | limit · M / `instances` |
 * | `open` | each process keeps `ceiling` times the limit: a limit still, against floods | `ceiling` · limit · M |
 * | `closed` | everything is denied | 0 |
 *
 * The local limit is warm: what the store admits to this process is counted there as well, so that an outage does not begin with
 * a fresh budget. (Slots of a concurrency limit are not: those held from before are in the store, and run out by themselves.)
 *
 * A failure is never told as a denial of the limit, nor a denial as a failure: verdicts made without the store have `mode`, and
 * operations that have no such answer (`settle`, `renew`, `release`, `reset`, `block`) reject with `store_unavailable` or
 * `store_timeout`. An error that is not the store's, such as `closed` or `too_many_keys`, is handed through.
 *
 * Whether a debit that met its deadline took effect is unknown. If the answer still comes and the request was refused meanwhile,
 * the debit is given back; if it does not, the debit counts: under-use, never over-use.
 */
import { type Clock, isClock, systemClock } from "../base/clock.ts";
import { Emitter } from "../base/emitter.ts";
import { isSluiceError, SluiceError } from "../base/errors.ts";
import { custom, durationMs, fn, integer, oneOf, optional, resolveOptions } from "../base/options.ts";
import type { Charge, Verdict } from "../limit/algorithms/verdict.ts";
import { type Answer, type Draw, isLater, type LimitRule, type LimitStore } from "../limit/store.ts";
import { CircuitBreaker, type CircuitBreakerOptions, type CircuitPass } from "../policies/circuit-breaker.ts";
import { type MemoryStore, memory } from "../stores/memory/memory-store.ts";
import { type Deadline, Deadlines } from "./deadlines.ts";
import { requireBelow, standsOn } from "./ladder.ts";
import { shareOf } from "./local-share.ts";

/** How a limit decides while its store is away. */
export type FailMode = "open" | "closed" | "local";

/** What can be said for one limit apart from others that share the store: see {@link GuardedStore.with}. */
export interface FailOptions {
  /** How to decide while the store is away; default `local`. */
  readonly failMode?: FailMode;
  /**
   * `local`: among how many processes the limit is divided: from 1 to 100 000. The default of 1 is safe for the callers, not for
   * what the limit protects: a fleet of M then admits up to M times the limit while the store is away. Say how many you run.
   */
  readonly instances?: number;
  /** `open`: how many times the limit one process admits at the most: from 1 to 1 000; default 10. */
  readonly ceiling?: number;
}

/** The options of {@link guarded}. */
export interface GuardOptions extends FailOptions {
  /** How long the store has for an answer, in milliseconds: from 1 to a minute; default 75. */
  readonly deadlineMs?: number;
  /** When to stop asking and when to try again; default 5 failures in a row, and a cool-down of 1 to 1.2 s. */
  readonly breaker?: Omit<CircuitBreakerOptions, "clock" | "slowMs" | "isFailure" | "random">;
  /** The most keys in use that are counted locally, for each limit: from 1 to 10 million; default 100 000. */
  readonly maxKeys?: number;
  /** Where time comes from; default the system's. For tests. */
  readonly clock?: Clock;
  /** A random number from 0 to below 1, for the jitter of probes; default `Math.random`. For tests. */
  readonly random?: () => number;
}

/** What a {@link GuardedStore} tells of, for metrics and logs. */
export interface GuardEvents {
  /** The store failed at an operation, or was too late. */
  readonly failure: { readonly operation: string; readonly limit: string; readonly error: unknown };
  /** A decision was made without the store. */
  readonly fallback: { readonly limit: string; readonly key: string; readonly mode: FailMode };
}

const failSpec = {
  failMode: oneOf(["open", "closed", "local"], { default: "local" }),
  instances: integer({ default: 1, min: 1, max: 100_000 }),
  ceiling: integer({ default: 10, min: 1, max: 1000 }),
};

const spec = {
  ...failSpec,
  deadlineMs: durationMs({ default: 75, min: 1, max: 60_000 }),
  breaker: optional(custom<CircuitBreakerOptions>("an object of options", asOptions)),
  maxKeys: integer({ default: 100_000, min: 1, max: 10_000_000 }),
  clock: custom("a clock", (value) => (isClock(value) ? value : undefined), { default: systemClock }),
  random: fn<() => number>({ default: Math.random }),
};

/**
 * Makes a store that answers in time, whatever becomes of the one it guards. It goes around everything else:
 * `guarded(leased(cachedDenials(redis(client))))`.
 * @throws `invalid_option`.
 *
 * @example
 *     const store = guarded(redis(client), { failMode: "local", instances: 4 });
 *     const perUser = limit("per-user", "100/60s", { store });
 *     const login = limit("login", "5/60s", { store: store.with({ failMode: "closed" }) });
 *     store.breaker.on("open", ({ error }) => log.warn(error));
 */
export function guarded(store: LimitStore, options?: GuardOptions): GuardedStore {
  requireBelow("guarded", store);
  const { deadlineMs, breaker, maxKeys, clock, random, ...fail } = resolveOptions(
    "guarded store",
    spec,
    options,
  );
  return new GuardedStore(
    {
      store,
      breaker: new CircuitBreaker({ ...breaker, clock, random }),
      deadlines: new Deadlines(clock, Math.ceil(deadlineMs * 1000)),
      deadlineMs,
      maxKeys,
      clock,
      random,
      events: new Emitter(),
    },
    fail,
  );
}

/** What all views of one guarded store share. */
interface Guard {
  readonly store: LimitStore;
  readonly breaker: CircuitBreaker;
  readonly deadlines: Deadlines;
  readonly deadlineMs: number;
  readonly maxKeys: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: Emitter<GuardEvents>;
}

/** Which operation, on what. */
interface Subject {
  readonly operation: string;
  readonly rule: LimitRule;
}

/** One operation, as the guard sees it. */
interface Asked<Result> extends Subject {
  readonly ask: () => Answer<Result>;
  /** What to do with an answer in time. */
  readonly onAnswer?: (result: Result) => void;
  /** What is answered instead; throws the error when there is nothing. */
  readonly otherwise: (error: SluiceError) => Result;
  /** What to do with an answer that came too late, when `instead` was given for it. */
  readonly onLate?: (result: Result, instead: Result) => Answer<unknown>;
}

/** A store that always answers in time. Made by {@link guarded}. */
export class GuardedStore implements LimitStore {
  readonly #guard: Guard;
  readonly #fail: Required<FailOptions>;
  readonly #local: MemoryStore;
  /** What this process keeps of each limit by itself. */
  readonly #shares = new WeakMap<LimitRule, LimitRule>();

  /** @internal */
  constructor(guard: Guard, fail: Required<FailOptions>) {
    this.#guard = guard;
    this.#fail = fail;
    this.#local = memory({ clock: guard.clock, maxKeys: guard.maxKeys });
    standsOn(this, "guarded");
  }

  /** The circuit breaker: its state, and the events `open`, `half-open` and `closed`. */
  get breaker(): CircuitBreaker {
    return this.#guard.breaker;
  }

  /**
   * The same store, deadline and circuit breaker with another fail mode, for a limit of its own.
   * @throws `invalid_option`.
   */
  with(options: FailOptions): GuardedStore {
    const given = resolveOptions("guarded store", failSpec, { ...this.#fail, ...options });
    return new GuardedStore(this.#guard, given);
  }

  /** Listens for failures and fallbacks, of all views; returns the function that stops it. */
  on<Name extends keyof GuardEvents>(name: Name, listener: (event: GuardEvents[Name]) => void): () => void {
    return this.#guard.events.on(name, listener);
  }

  consume(rule: LimitRule, key: string, cost: number): Answer<Verdict> {
    return this.#ask({
      operation: "consume",
      rule,
      ask: () => this.#guard.store.consume(rule, key, cost),
      onAnswer: (verdict) => this.#warm(rule, key, verdict),
      otherwise: () => this.#decided({ rule, key, cost }, (share) => this.#local.consume(share, key, cost)),
      onLate: (verdict, instead) => this.#giveBack({ rule, key, cost }, verdict, instead),
    });
  }

  consumeUpTo(rule: LimitRule, key: string, most: number): Answer<Verdict> {
    const draw = { rule, key, cost: 1 };
    return this.#ask({
      operation: "consumeUpTo",
      rule,
      ask: () => this.#guard.store.consumeUpTo(rule, key, most),
      onAnswer: (verdict) => this.#warm(rule, key, verdict),
      otherwise: () =>
        this.#decided(draw, (share) => this.#local.consumeUpTo(share, key, capped(most, rule))),
      onLate: (verdict, instead) => this.#giveBack(draw, verdict, instead),
    });
  }

  consumeAll(draws: readonly Draw[]): Answer<readonly Verdict[]> {
    return this.#ask<readonly Verdict[]>({
      operation: "consumeAll",
      rule: draws[0]!.rule,
      ask: () => this.#guard.store.consumeAll(draws),
      onAnswer: (verdicts) => {
        for (const [i, { rule, key }] of draws.entries()) this.#warm(rule, key, verdicts[i]!);
      },
      otherwise: () => this.#decidedAll(draws),
      onLate: (verdicts, instead) =>
        Promise.all(draws.map((draw, i) => this.#giveBack(draw, verdicts[i]!, instead[i]!))),
    });
  }

  peek(rule: LimitRule, key: string, cost: number): Answer<Verdict> {
    return this.#ask({
      operation: "peek",
      rule,
      ask: () => this.#guard.store.peek(rule, key, cost),
      otherwise: () => this.#decided({ rule, key, cost }, (share) => this.#local.peek(share, key, cost)),
    });
  }

  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Answer<void> {
    // What was debited without the store is unknown to it.
    if (charge.mode !== undefined && charge.mode !== "normal")
      return this.#local.settle(this.#shareOf(rule), key, charge, actual);
    return this.#ask({
      operation: "settle",
      rule,
      ask: () => this.#guard.store.settle(rule, key, charge, actual),
      otherwise: rethrow,
    });
  }

  /** Holds in this process even if the store cannot be told. */
  block(rule: LimitRule, key: string, forUs: number): Answer<void> {
    this.#local.block(this.#shareOf(rule), key, forUs);
    return this.#ask({
      operation: "block",
      rule,
      ask: () => this.#guard.store.block(rule, key, forUs),
      otherwise: rethrow,
    });
  }

  renew(rule: LimitRule, key: string, fence: number): Answer<number | undefined> {
    if (fence < 0) return this.#local.renew(this.#shareOf(rule), key, -fence);
    return this.#ask({
      operation: "renew",
      rule,
      ask: () => this.#guard.store.renew(rule, key, fence),
      otherwise: rethrow,
    });
  }

  release(rule: LimitRule, key: string, fence: number): Answer<boolean> {
    if (fence < 0) return this.#local.release(this.#shareOf(rule), key, -fence);
    return this.#ask({
      operation: "release",
      rule,
      ask: () => this.#guard.store.release(rule, key, fence),
      otherwise: rethrow,
    });
  }

  reset(rule: LimitRule, key: string): Answer<void> {
    this.#local.reset(this.#shareOf(rule), key);
    return this.#ask({
      operation: "reset",
      rule,
      ask: () => this.#guard.store.reset(rule, key),
      otherwise: rethrow,
    });
  }

  /** Closes the store that is guarded too, and with it every other view of it. */
  close(): Answer<void> {
    this.#local.close();
    return this.#guard.store.close();
  }

  #ask<Result>(asked: Asked<Result>): Answer<Result> {
    const pass = this.#guard.breaker.enter();
    if (pass === undefined) return asked.otherwise(this.#isAway());
    let answer: Answer<Result>;
    try {
      answer = asked.ask();
    } catch (error) {
      return this.#failed(asked, pass, error);
    }
    if (isLater(answer)) return this.#await(asked, pass, answer);
    this.#guard.breaker.succeed(pass);
    asked.onAnswer?.(answer);
    return answer;
  }

  #await<Result>(asked: Asked<Result>, pass: CircuitPass, answer: PromiseLike<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      let instead: { readonly result: Result } | undefined;
      const answerFor = (error: unknown): void => {
        try {
          instead = { result: this.#failed(asked, pass, error) };
          resolve(instead.result);
        } catch (failure) {
          reject(failure);
        }
      };
      const deadline: Deadline = this.#guard.deadlines.set(() => answerFor(this.#isLate(asked)));
      const onAnswer = (result: Result): void => {
        if (deadline.isOver) {
          this.#late(asked, result, instead);
          return;
        }
        deadline.isOver = true;
        this.#guard.breaker.succeed(pass);
        asked.onAnswer?.(result);
        resolve(result);
      };
      answer.then(onAnswer, (error: unknown) => {
        // A failure after the deadline has been told by it.
        if (deadline.isOver) return;
        deadline.isOver = true;
        answerFor(error);
      });
    });
  }

  #failed<Result>(asked: Asked<Result>, pass: CircuitPass, error: unknown): Result {
    const { breaker } = this.#guard;
    if (isSluiceError(error) && error.family !== "store") {
      breaker.succeed(pass);
      throw error;
    }
    this.#tellFailure(asked.operation, asked.rule, error);
    breaker.fail(pass, error);
    return asked.otherwise(this.#storeError(asked, error));
  }

  /** An answer for which nobody waits any more. */
  #late<Result>(
    asked: Asked<Result>,
    result: Result,
    instead: { readonly result: Result } | undefined,
  ): void {
    if (asked.onLate === undefined || instead === undefined) return;
    const { onLate } = asked;
    void Promise.resolve()
      .then(() => onLate(result, instead.result))
      .catch((error: unknown) => this.#tellFailure("settle", asked.rule, error));
  }

  /** Gives back what the store has debited for a request that was answered without it, unless that was admitted too. */
  #giveBack({ rule, key }: Draw, verdict: Verdict, instead: Verdict): Answer<unknown> {
    const { store } = this.#guard;
    if (verdict.fence > 0) return store.release(rule, key, verdict.fence);
    const surplus = verdict.granted - instead.granted;
    if (surplus <= 0) return undefined;
    const charge = { atUs: verdict.atUs, cost: verdict.granted };
    return store.settle(rule, key, charge, instead.granted);
  }

  /** Counts locally what the store has admitted. */
  #warm(rule: LimitRule, key: string, { granted }: Verdict): void {
    if (granted === 0 || this.#fail.failMode === "closed" || rule.policy.algorithm === "concurrency") return;
    try {
      this.#local.consumeUpTo(this.#shareOf(rule), key, granted);
    } catch (error) {
      // A key too many to be counted begins an outage with its whole share, which the bound allows for.
      if (!isSluiceError(error, "too_many_keys")) throw error;
    }
  }

  #decided(draw: Draw, decide: (share: LimitRule) => Verdict): Verdict {
    const { rule, key } = draw;
    const { failMode } = this.#fail;
    this.#guard.events.emit("fallback", { limit: rule.name, key, mode: failMode });
    if (failMode === "closed") return this.#closed(draw);
    const share = this.#shareOf(rule);
    return this.#dressed(draw, isNever(draw) ? this.#local.peek(share, key, draw.cost) : decide(share));
  }

  #decidedAll(draws: readonly Draw[]): readonly Verdict[] {
    const { failMode } = this.#fail;
    for (const { rule, key } of draws)
      this.#guard.events.emit("fallback", { limit: rule.name, key, mode: failMode });
    if (failMode === "closed") return draws.map((draw) => this.#closed(draw));
    const shares = draws.map(({ rule, key, cost }) => ({ rule: this.#shareOf(rule), key, cost }));
    if (draws.some(isNever)) {
      const peeked = shares.map(({ rule, key, cost }) => this.#local.peek(rule, key, cost));
      return peeked.map((verdict, i) => this.#dressed(draws[i]!, verdict));
    }
    return this.#local.consumeAll(shares).map((verdict, i) => this.#dressed(draws[i]!, verdict));
  }

  /** A verdict of the local limit, as one of the whole. */
  #dressed(draw: Draw, verdict: Verdict): Verdict {
    const mode = this.#fail.failMode;
    // Also in `open`, where this process alone could pay for it.
    if (isNever(draw)) return { ...verdict, allowed: false, never: true, retryAfterUs: Infinity, mode };
    // What is too much for this process alone may pass when the store is back.
    const retryAfterUs = verdict.never ? this.#backInUs() : verdict.retryAfterUs;
    // Below 0, which no store gives: it is known here only, and to a resource that looks for the highest it is stale.
    const fence = verdict.fence === 0 ? 0 : -verdict.fence;
    return { ...verdict, never: false, retryAfterUs, fence, mode };
  }

  #closed(draw: Draw): Verdict {
    const nowUs = this.#guard.clock.nowUs();
    const never = isNever(draw);
    const retryAfterUs = this.#backInUs();
    return {
      allowed: false,
      never,
      remaining: 0,
      retryAfterUs: never ? Infinity : retryAfterUs,
      resetAtUs: nowUs + retryAfterUs,
      granted: 0,
      atUs: nowUs,
      fence: 0,
      mode: "closed",
    };
  }

  /** When it is worth asking the store again, spread so that those who were refused together do not come back together. */
  #backInUs(): number {
    const { breaker, deadlineMs, random } = this.#guard;
    const deadlineUs = deadlineMs * 1000;
    return Math.ceil(Math.max(breaker.retryAfterUs, deadlineUs) + deadlineUs * random());
  }

  #shareOf(rule: LimitRule): LimitRule {
    const known = this.#shares.get(rule);
    if (known !== undefined) return known;
    const { failMode, instances, ceiling } = this.#fail;
    const share = failMode === "open" ? { times: ceiling, over: 1 } : { times: 1, over: instances };
    const made = shareOf(rule, share);
    this.#shares.set(rule, made);
    return made;
  }

  #isAway(): SluiceError {
    const retryAfterMs = this.#guard.breaker.retryAfterUs / 1000;
    const message = `the store has failed; it is asked again in ${retryAfterMs} ms`;
    return new SluiceError("store_unavailable", message, { details: { retryAfterMs } });
  }

  #isLate({ operation, rule }: Subject): SluiceError {
    const { deadlineMs } = this.#guard;
    const message = `limit "${rule.name}": ${operation} was not answered within ${deadlineMs} ms`;
    return new SluiceError("store_timeout", message, { details: { operation, deadlineMs } });
  }

  /** The error as one of the store, whatever a store of somebody else has thrown. */
  #storeError({ operation, rule }: Subject, error: unknown): SluiceError {
    if (isSluiceError(error)) return error;
    const message = `limit "${rule.name}": the store failed at ${operation}`;
    return new SluiceError("store_unavailable", message, { cause: error });
  }

  #tellFailure(operation: string, rule: LimitRule, error: unknown): void {
    this.#guard.events.emit("failure", { operation, limit: rule.name, error });
  }
}

function isNever({ rule, cost }: Draw): boolean {
  return cost > rule.policy.capacity;
}

function capped(most: number, { policy }: LimitRule): number {
  return Math.min(most, policy.capacity);
}

function rethrow(error: SluiceError): never {
  throw error;
}

function asOptions(value: unknown): CircuitBreakerOptions | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
}
