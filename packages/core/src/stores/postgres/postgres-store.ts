/**
 * The PostgreSQL store: limits of a fleet, kept in a database that is there anyway. Also in PGlite.
 *
 * Every operation is one statement, and one statement takes many operations: the calls of one turn of the event loop, and those that
 * come while others are on their way, go together. What a statement has answered is committed: no budget that was spent is
 * forgotten by a crash of the server (unless `losesBudgetsOnCrash` gives that up, or `synchronous_commit` is off).
 *
 * Time is `clock_timestamp()` of the server. A key that is as if it had never been used costs nothing: its row is deleted by and by,
 * as new keys come.
 */
import { SluiceError } from "../../base/errors.ts";
import { boolean, custom, integer, optional, resolveOptions, string } from "../../base/options.ts";
import type { Charge, Verdict } from "../../limit/algorithms/verdict.ts";
import type { Draw, LimitRule, LimitStore } from "../../limit/store.ts";
import { type Answers, type Ask, op } from "./ask.ts";
import { Batches, type BatchSettings } from "./batches.ts";
import { isPostgresClient, type PostgresClient, Session } from "./client.ts";
import { rowKeyOf } from "./row-key.ts";

/** The options of {@link postgres}. */
export interface PostgresStoreOptions {
  /** The schema that holds the tables, made on first use. Default `"sluice"`; a lower-case identifier of at most 40 characters. */
  readonly schema?: string;
  /**
   * Keeps the budgets in an UNLOGGED table: faster to write, but all of them are full again after the server crashed, and on a
   * standby that takes over. Default false. All users of a schema must agree (`already_declared`).
   */
  readonly losesBudgetsOnCrash?: boolean;
  /** Whether statements are prepared. Default true; false behind a pooler that cannot keep them. */
  readonly prepared?: boolean;
  /** The most operations in one statement: from 1 to 1 000; default 128. */
  readonly maxBatch?: number;
  /** The most statements at once, each on a connection of the pool: from 1 to 100; default 4. */
  readonly maxStatements?: number;
  /** The present in whole microseconds, for tests. Default: the server's clock. */
  readonly nowUs?: () => number;
}

/** A store in PostgreSQL. Made by {@link postgres}. */
export interface PostgresStore extends LimitStore {
  consume(rule: LimitRule, key: string, cost: number): Promise<Verdict>;
  consumeUpTo(rule: LimitRule, key: string, most: number): Promise<Verdict>;
  consumeAll(draws: readonly Draw[]): Promise<readonly Verdict[]>;
  peek(rule: LimitRule, key: string, cost: number): Promise<Verdict>;
  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Promise<void>;
  block(rule: LimitRule, key: string, forUs: number): Promise<void>;
  renew(rule: LimitRule, key: string, fence: number): Promise<number | undefined>;
  release(rule: LimitRule, key: string, fence: number): Promise<boolean>;
  reset(rule: LimitRule, key: string): Promise<void>;
  /** Resolves when the calls made so far have their answers. The pool stays open. */
  close(): Promise<void>;
}

const optionSpec = {
  schema: string({
    default: "sluice",
    maxLength: 40,
    pattern: /^[a-z_][a-z0-9_]*$/,
    form: "of lower-case letters, digits and underscores",
  }),
  losesBudgetsOnCrash: boolean({ default: false }),
  prepared: boolean({ default: true }),
  maxBatch: integer({ default: 128, min: 1, max: 1000 }),
  maxStatements: integer({ default: 4, min: 1, max: 100 }),
  nowUs: optional(
    custom("a function", (value) => (typeof value === "function" ? (value as () => number) : undefined)),
  ),
} as const;

/**
 * Makes a store of a PostgreSQL database, version 15 or later, or of a PGlite.
 *
 * @param client A `Pool` of `pg`, or a PGlite. It stays the caller's, is not ended on close, and may serve others at the same time;
 *   give it at least as many connections as `maxStatements`.
 * @throws `invalid_option`. Later, from its calls: `store_unavailable` and `store_timeout` (it is unknown whether the call took effect,
 *   so its cost counts as consumed), `store_conflict`, `schema_too_new`, `database_too_old`, `already_declared`, `closed`.
 *
 * @example
 *     const store = postgres(new pg.Pool({ connectionString }));
 *     const perTenant = limit("per-tenant", "100/60s", { store });
 */
export function postgres(client: PostgresClient, options?: PostgresStoreOptions): PostgresStore {
  const { losesBudgetsOnCrash, prepared, ...settings } = resolveOptions(
    "postgres store",
    optionSpec,
    options,
  );
  if (!isPostgresClient(client)) {
    throw new SluiceError(
      "invalid_option",
      "postgres store: expected a Pool of pg or a PGlite as the client",
    );
  }
  return new BatchingStore(new Session(client, prepared), { ...settings, unlogged: losesBudgetsOnCrash });
}

/** No rule has a higher capacity, so no debit is larger. */
const chargeMax = 1_000_000_000;

class BatchingStore implements PostgresStore {
  readonly #session: Session;
  readonly #batches: Batches;
  #closing: Promise<void> | undefined;

  constructor(session: Session, settings: BatchSettings) {
    this.#session = session;
    this.#batches = new Batches(session, settings);
  }

  consume(rule: LimitRule, key: string, cost: number): Promise<Verdict> {
    return this.#ask([askOf(op.consume, rule, key, cost)], verdictOf);
  }

  consumeUpTo(rule: LimitRule, key: string, most: number): Promise<Verdict> {
    return this.#ask([askOf(op.consumeUpTo, rule, key, most)], verdictOf);
  }

  peek(rule: LimitRule, key: string, cost: number): Promise<Verdict> {
    return this.#ask([askOf(op.peek, rule, key, cost)], verdictOf);
  }

  consumeAll(draws: readonly Draw[]): Promise<readonly Verdict[]> {
    const size = draws.length;
    const asks = draws.map(({ rule, key, cost }, i) => ({
      ...askOf(op.draw, rule, key, cost),
      // The first one says how many there are.
      bookedUs: i === 0 ? size : 0,
    }));
    return this.#ask(asks, (answers, first) => draws.map((_, i) => answers.verdict(first + i)));
  }

  settle(rule: LimitRule, key: string, charge: Charge, actual: number): Promise<void> {
    const charged = Math.min(charge.cost, chargeMax);
    const ask = { ...askOf(op.settle, rule, key, actual), bookedUs: charge.atUs, charged };
    return this.#ask([ask], () => undefined);
  }

  block(rule: LimitRule, key: string, forUs: number): Promise<void> {
    return this.#ask([askOf(op.block, rule, key, Math.min(forUs, 86_400_000_000))], () => undefined);
  }

  renew(rule: LimitRule, key: string, fence: number): Promise<number | undefined> {
    return this.#ask([askOf(op.renew, rule, key, fence)], (answers, first) => {
      const expiresAtUs = answers.granted(first);
      return expiresAtUs < 0 ? undefined : expiresAtUs;
    });
  }

  release(rule: LimitRule, key: string, fence: number): Promise<boolean> {
    return this.#ask([askOf(op.release, rule, key, fence)], (answers, first) => answers.granted(first) === 1);
  }

  reset(rule: LimitRule, key: string): Promise<void> {
    return this.#ask([askOf(op.reset, rule, key, 0)], () => undefined);
  }

  close(): Promise<void> {
    this.#closing ??= this.#batches.idle().then(() => this.#session.release());
    return this.#closing;
  }

  #ask<Value>(asks: readonly Ask[], read: (answers: Answers, first: number) => Value): Promise<Value> {
    if (this.#closing !== undefined)
      return Promise.reject(new SluiceError("closed", "the postgres store is closed"));
    return new Promise((resolve, failed) => {
      this.#batches.add({ asks, answered: (answers, first) => resolve(read(answers, first)), failed });
    });
  }
}

function askOf(code: number, rule: LimitRule, key: string, amount: number): Ask {
  return { rowKey: rowKeyOf(rule.name, key), rule, op: code, amount, bookedUs: 0, charged: 0 };
}

function verdictOf(answers: Answers, first: number): Verdict {
  return answers.verdict(first);
}
