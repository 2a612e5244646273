/**
 * Many calls in one statement. Calls of one turn of the event loop go together, and while as many statements as may be are on their
 * way, those that come wait for the next and fill it. A lone call waits for nothing.
 *
 * The database answers them one after the other, in the order of asking, so each caller gets what it would have got alone.
 */
import { isSluiceError } from "../../base/errors.ts";
import type { LimitRule } from "../../limit/store.ts";
import { Answers, type Ask, askList, op } from "./ask.ts";
import type { Session } from "./client.ts";
import { isSchemaGone } from "./failures.ts";
import { constantsOf } from "./rule-constants.ts";
import { migrate, type SchemaSettings, type Statements, statementsOf } from "./schema.ts";

/** What is asked together, and who waits for it. */
export interface Call {
  readonly asks: readonly Ask[];
  /** @param first Where the answers to `asks` begin. */
  answered(answers: Answers, first: number): void;
  failed(error: unknown): void;
}

/** How to send. */
export interface BatchSettings extends SchemaSettings {
  /** The most asks in a statement; a call is never split. */
  readonly maxBatch: number;
  /** The most statements at once. */
  readonly maxStatements: number;
  /** The time in microseconds, for tests; undefined takes the server's. */
  readonly nowUs: (() => number) | undefined;
}

/** A statement that gave way has done nothing, and is sent again at most this often. */
const attemptsMax = 20;

/** The calls that wait, and the statements on their way. */
export class Batches {
  readonly #session: Session;
  readonly #settings: BatchSettings;
  readonly #statements: Statements;
  readonly #learnt = new Set<string>();
  #waiting: Call[] = [];
  #sending = 0;
  #isFlushDue = false;
  #ready: Promise<void> | undefined;
  #onIdle: (() => void)[] = [];

  constructor(session: Session, settings: BatchSettings) {
    this.#session = session;
    this.#settings = settings;
    this.#statements = statementsOf(settings.schema);
  }

  /** Sends a call with the next statement. */
  add(call: Call): void {
    this.#waiting.push(call);
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    // After whatever else this turn asks for.
    queueMicrotask(() => {
      this.#isFlushDue = false;
      this.#flush();
    });
  }

  /** Resolves when every call made so far has its answer. */
  idle(): Promise<void> {
    if (this.#waiting.length === 0 && this.#sending === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
    });
  }

  #flush(): void {
    while (this.#waiting.length > 0 && this.#sending < this.#settings.maxStatements) {
      this.#sending++;
      void this.#send(this.#nextBatch()).finally(() => {
        this.#sending--;
        this.#flush();
        if (this.#sending === 0) for (const resolve of this.#onIdle.splice(0)) resolve();
      });
    }
  }

  #nextBatch(): readonly Call[] {
    const { maxBatch } = this.#settings;
    let calls = 0;
    for (let asks = 0; calls < this.#waiting.length; calls++) {
      asks += this.#waiting[calls]!.asks.length;
      if (calls > 0 && asks > maxBatch) break;
    }
    if (calls < this.#waiting.length) return this.#waiting.splice(0, calls);
    const all = this.#waiting;
    this.#waiting = [];
    return all;
  }

  async #send(calls: readonly Call[]): Promise<void> {
    try {
      const answers = await this.#ask(calls.flatMap(({ asks }) => asks));
      let first = 0;
      for (const call of calls) {
        call.answered(answers, first);
        first += call.asks.length;
      }
    } catch (error) {
      for (const call of calls) call.failed(error);
    }
  }

  async #ask(asks: readonly Ask[]): Promise<Answers> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#prepare();
        return await this.#askOnce(asks);
      } catch (error) {
        if (attempt === attemptsMax) throw error;
        if (isSchemaGone(error) && attempt < 3) this.#ready = undefined;
        else if (!isSluiceError(error, "store_conflict")) throw error;
      }
    }
  }

  async #askOnce(asks: readonly Ask[]): Promise<Answers> {
    const rules = new Map<LimitRule, string>();
    let isNews = false;
    for (const { rule } of asks) {
      if (rules.has(rule)) continue;
      const { id, text } = constantsOf(rule);
      rules.set(rule, text);
      isNews ||= !this.#learnt.has(id);
    }
    const list = askList(asks, rules);
    const isLocking = asks.some((ask) => ask.op !== op.peek);
    const clock = this.#settings.nowUs === undefined ? null : String(this.#settings.nowUs());
    const statement = isNews && isLocking ? this.#statements.learnAndAsk : this.#statements.ask;
    const rows = await this.#session.query(statement, [
      list.rowKeys,
      list.rules,
      list.asks,
      String(isLocking),
      clock,
    ]);
    if (isNews && isLocking) for (const rule of rules.keys()) this.#learnt.add(constantsOf(rule).id);
    return new Answers(String(rows[0]?.["answer"]));
  }

  /** Looks once that the schema is there; again after a failure. */
  #prepare(): Promise<void> {
    if (this.#ready !== undefined) return this.#ready;
    this.#learnt.clear();
    const ready = migrate(this.#session, this.#settings);
    this.#ready = ready;
    ready.catch(() => {
      if (this.#ready === ready) this.#ready = undefined;
    });
    return ready;
  }
}
