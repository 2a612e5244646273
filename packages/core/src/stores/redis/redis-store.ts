/**
 * The Redis store: limits that processes share through Redis or Valkey, a single server, one behind Sentinels, or a cluster.
 *
 * Each decision is one run of one script, atomic and on the server's clock. Keys expire by themselves as soon as they are as if
 * they had never been used. What callers ask for within a turn of the event loop goes as one call of up to 64 keys, and calls
 * for the same key and cost as one check; every caller gets the verdict it would have got alone.
 *
 * On a cluster the limits of one subject (one key) lie in one slot and are decided in one step. `consumeAll` over several slots
 * reserves: see across-slots.ts for what that promises.
 */
import { assert } from "../../base/assert.ts";
import { SluiceError } from "../../base/errors.ts";
import { custom, fn, optional, resolveOptions, string } from "../../base/options.ts";
import type { Charge, Verdict } from "../../limit/algorithms/verdict.ts";
import type { Draw, LimitRule, LimitStore } from "../../limit/store.ts";
import { consumeAcrossSlots } from "./across-slots.ts";
import { connectionOf, isRedisClient, type RedisClient } from "./client.ts";
import { failureOf, refusalOf } from "./failure.ts";
import { keyName } from "./key-names.ts";
import { type Answer, readingOf } from "./reading.ts";
import { GroupRequest, type KeyedDraw, KeyRequest, type Operation, operations } from "./request.ts";
import { ruleTextOf } from "./rule-text.ts";
import { Sender } from "./sender.ts";

/** The options of {@link redis}. */
export interface RedisStoreOptions {
  /**
   * What all keys of the store begin with: 1 to 64 letters, digits and `_ - . : /`; default `sluice`. Stores with the same
   * prefix on the same server share their limits.
   */
  readonly prefix?: string;
  /** The present in whole microseconds, in place of the server's clock: for tests that hold time in their hand. */
  readonly nowUs?: () => number;
}

/** A store on Redis or Valkey. Made by {@link redis}. */
export interface RedisStore extends LimitStore {
  /** How many values under its keys were not its own since it was made; they count as keys never used. */
  readonly foreignValues: number;
  consume(rule: LimitRule, key: string, cost: number): Promise<Verdict>;
  consumeUpTo(rule: LimitRule, key: string, most: number): Promise<Verdict>;
  consumeAll(draws: readonly Draw[]): Promise<readonly Verdict[]>;
  peek(rule: LimitRule, key: string, cost: number): Promise<Verdict>;
  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Promise<void>;
  block(rule: LimitRule, key: string, forUs: number): Promise<void>;
  renew(rule: LimitRule, key: string, fence: number): Promise<number | undefined>;
  release(rule: LimitRule, key: string, fence: number): Promise<boolean>;
  reset(rule: LimitRule, key: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * Makes a store on Redis or Valkey (7 or newer), through a client of ioredis, iovalkey or node-redis: one to a single server, one
 * that follows Sentinels, or a cluster. The client stays yours: connect it, listen to its errors, close it after the store.
 *
 * A call fails with `store_unavailable` or `store_timeout` when the client's does, and `details.mayHaveRun` says whether it may have
 * been debited all the same. The store never repeats such a call. Your client may: ioredis sends commands again that were
 * under way when a connection broke, unless `autoResendUnfulfilledCommands` is false, and its clusters unless
 * `retryDelayOnFailover` is 0; a debit may then count twice, never not at all. Give the client a `commandTimeout` as well:
 * without one, commands that ioredis does not send again are never settled, nor is a `close` after them.
 *
 * A primary that fails over loses the debits its replica had not seen: as many admissions too many as fit into the lag.
 * @example
 *     const store = redis(new Redis(process.env.REDIS_URL));
 *     const perTenant = limit("per-tenant", "100/60s", { store });
 * @throws `invalid_option`.
 */
export function redis(client: RedisClient, options?: RedisStoreOptions): RedisStore {
  const owner = "redis store";
  const { prefix, nowUs } = resolveOptions(
    owner,
    {
      prefix: string({
        default: "sluice",
        maxLength: 64,
        pattern: /^[\w.:/-]+$/,
        form: "of letters, digits and _ - . : /",
      }),
      nowUs: optional(fn<() => number>()),
    },
    options,
  );
  const clients = {
    client: custom("a client of ioredis, iovalkey or node-redis", (value) =>
      isRedisClient(value) ? value : undefined,
    ),
  };
  const connection = connectionOf(resolveOptions(owner, clients, { client }).client);
  return new ScriptStore(new Sender(connection, nowUs ?? (() => 0)), prefix);
}

class ScriptStore implements RedisStore {
  readonly #sender: Sender;
  readonly #prefix: string;
  #closed = false;

  constructor(sender: Sender, prefix: string) {
    this.#sender = sender;
    this.#prefix = prefix;
  }

  get foreignValues(): number {
    return this.#sender.foreignValues;
  }

  consume(rule: LimitRule, key: string, cost: number): Promise<Verdict> {
    return new Promise((resolve, reject) => {
      this.#requireOpen();
      this.#sender.consume(this.#keyName(rule, key), ruleTextOf(rule), cost, { resolve, reject });
    });
  }

  consumeUpTo(rule: LimitRule, key: string, most: number): Promise<Verdict> {
    assert(!hasSlots(rule), "slots are taken whole, not as many as there are");
    const read = (answer: Answer): Verdict => readingOf(answer, rule.policy).consumeUpTo(most);
    return this.#request(rule, key, operations.consumeUpTo(most), read);
  }

  async consumeAll(draws: readonly Draw[]): Promise<readonly Verdict[]> {
    this.#requireOpen();
    const keyed = this.#keyed(draws);
    if (!this.#sender.areTogether(keyed)) return this.#consumeAcrossSlots(draws);
    try {
      return await this.#consumeTogether(keyed);
    } catch (error) {
      // By this the store has learned that it speaks to a cluster.
      if (refusalOf(error) === "CROSSSLOT") return this.#consumeAcrossSlots(draws);
      throw error;
    }
  }

  peek(rule: LimitRule, key: string, cost: number): Promise<Verdict> {
    const read = (answer: Answer): Verdict => readingOf(answer, rule.policy).peek(cost);
    return this.#request(rule, key, operations.peek(cost), read);
  }

  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Promise<void> {
    assert(!hasSlots(rule), "a concurrency limit has slots, which are released, not settled");
    return this.#request(rule, key, operations.settle(charge, actual), () => {});
  }

  block(rule: LimitRule, key: string, forUs: number): Promise<void> {
    return this.#request(rule, key, operations.block(forUs), () => {});
  }

  renew(rule: LimitRule, key: string, fence: number): Promise<number | undefined> {
    const { policy } = rule;
    assert(policy.algorithm === "concurrency", "only leases of a concurrency limit are renewed");
    const { leaseUs } = policy;
    const read = (answer: Answer): number | undefined =>
      answer.next() === 1 ? answer.nowUs + leaseUs : undefined;
    return this.#request(rule, key, operations.renew(fence), read);
  }

  release(rule: LimitRule, key: string, fence: number): Promise<boolean> {
    assert(hasSlots(rule), "only leases of a concurrency limit are released");
    return this.#request(rule, key, operations.release(fence), (answer) => answer.next() === 1);
  }

  reset(rule: LimitRule, key: string): Promise<void> {
    return this.#request(rule, key, operations.reset(), () => {});
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#sender.finish();
  }

  #request<Value>(
    rule: LimitRule,
    key: string,
    numbers: Operation,
    read: (answer: Answer) => Value,
  ): Promise<Value> {
    return new Promise((resolve, reject) => {
      this.#requireOpen();
      const at = { key: this.#keyName(rule, key), rule: ruleTextOf(rule) };
      this.#sender.add(new KeyRequest(at, numbers, read, { resolve, reject }));
    });
  }

  #consumeTogether(keyed: readonly KeyedDraw[]): Promise<readonly Verdict[]> {
    return new Promise((resolve, reject) => {
      this.#sender.add(new GroupRequest(keyed, { resolve, reject }));
    });
  }

  #keyed(draws: readonly Draw[]): readonly KeyedDraw[] {
    let before: KeyedDraw | undefined;
    return draws.map((draw) => {
      // Mostly all are of one subject. What has no key is named by its limit.
      const isSame = before !== undefined && draw.key === before.draw.key && draw.key !== "";
      const key = isSame ? before!.key : this.#keyName(draw.rule, draw.key);
      before = { key, rule: ruleTextOf(draw.rule), draw };
      return before;
    });
  }

  async #consumeAcrossSlots(draws: readonly Draw[]): Promise<readonly Verdict[]> {
    const keyOf = (draw: Draw): string => this.#keyName(draw.rule, draw.key);
    try {
      return await consumeAcrossSlots(draws, keyOf, this, (group) =>
        this.#consumeTogether(this.#keyed(group)),
      );
    } catch (error) {
      throw error instanceof SluiceError ? error : failureOf(error);
    }
  }

  #keyName(rule: LimitRule, key: string): string {
    return keyName(this.#prefix, ruleTextOf(rule).field, key);
  }

  #requireOpen(): void {
    if (this.#closed) throw new SluiceError("closed", "the Redis store is closed");
  }
}

function hasSlots(rule: LimitRule): boolean {
  return rule.policy.algorithm === "concurrency";
}
