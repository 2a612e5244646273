/**
 * Gathers what is asked within one turn of the event loop and sends it as one call of the script; on a cluster, one for each
 * slot.
 *
 *     nothing under way    sent at the end of the current microtasks: a caller alone waits for nobody
 *     something under way  sent at the end of the turn, with what other callbacks of this turn ask
 *     a batch is full      sent at once
 *
 * A call is never repeated, except after refusals by which the server says that it has not run it.
 */
import { SluiceError } from "../../base/errors.ts";
import type { Verdict } from "../../limit/algorithms/verdict.ts";
import { Batch } from "./batch.ts";
import type { Connection } from "./client.ts";
import { failureOf, refusalOf } from "./failure.ts";
import type { Request, Settler } from "./request.ts";
import type { RuleText } from "./rule-text.ts";
import { slotOf } from "./slot.ts";

/** The most keys of one call: enough to share its cost, and too few to keep the server from others for long. */
const batchSize = 64;

/** Where batches go when keys of all slots lie on one server. */
const anySlot = -1;

// As they were when the process began: a test that freezes time must not freeze this.
const atEndOfTurn = setImmediate;
const atEndOfMicrotasks = queueMicrotask;

/** The way of all requests of a store. */
export class Sender {
  /** How many values under the store's keys were not its own, and counted as none. */
  foreignValues = 0;
  readonly #connection: Connection;
  readonly #nowUs: () => number;
  readonly #open = new Map<number, Batch>();
  #bySlot: boolean;
  #isDue = false;
  readonly #sendOpen = (): void => this.#sendAll();
  /** How many calls are. */
  #underWay = 0;
  /** Whom to tell when none is. */
  #waiting: (() => void)[] = [];

  /** @param nowUs The present, for tests; 0 for the server's own. */
  constructor(connection: Connection, nowUs: () => number) {
    this.#connection = connection;
    this.#nowUs = nowUs;
    this.#bySlot = connection.isCluster;
  }

  /** Whether draws go to one server in one call. */
  areTogether(draws: readonly { readonly key: string }[]): boolean {
    if (!this.#bySlot) return true;
    const first = slotOf(draws[0]!.key);
    return draws.every(({ key }) => slotOf(key) === first);
  }

  consume(key: string, rule: RuleText, cost: number, settler: Settler<Verdict>): void {
    const slot = this.#slot(key);
    const batch = this.#batch(slot);
    batch.consume(key, rule, cost, settler);
    this.#sendSoon(slot, batch);
  }

  add(request: Request): void {
    const slot = this.#slot(request.keys[0]!);
    const batch = this.#batch(slot);
    batch.add(request);
    this.#sendSoon(slot, batch);
  }

  /** Sends what was asked, and waits for everything under way. */
  async finish(): Promise<void> {
    this.#sendAll();
    while (this.#underWay > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #slot(key: string): number {
    return this.#bySlot ? slotOf(key) : anySlot;
  }

  #batch(slot: number): Batch {
    let batch = this.#open.get(slot);
    if (batch === undefined) {
      batch = new Batch();
      this.#open.set(slot, batch);
    }
    return batch;
  }

  #sendSoon(slot: number, batch: Batch): void {
    if (batch.keys.length >= batchSize) {
      this.#open.delete(slot);
      this.#send(batch);
    } else if (!this.#isDue) {
      this.#isDue = true;
      const later = this.#underWay === 0 ? atEndOfMicrotasks : atEndOfTurn;
      later(this.#sendOpen);
    }
  }

  #sendAll(): void {
    this.#isDue = false;
    for (const [slot, batch] of this.#open) {
      this.#open.delete(slot);
      this.#send(batch);
    }
  }

  #send(batch: Batch): void {
    const { script, parameters } = batch.call(this.#nowUs());
    let reply: PromiseLike<unknown>;
    try {
      reply = batch.isTaught
        ? this.#connection.teach(script, batch.keys, parameters)
        : this.#connection.run(script, batch.keys, parameters);
    } catch (error) {
      batch.reject(failureOf(error));
      return;
    }
    this.#underWay++;
    reply.then(
      (answer) => this.#settle(batch, answer),
      (error: unknown) => this.#fail(batch, error),
    );
  }

  /** A call is no longer under way; it may be sent again in the same step. */
  #landed(): void {
    this.#underWay--;
    if (this.#underWay > 0 || this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const tell of waiting) tell();
  }

  #settle(batch: Batch, answer: unknown): void {
    this.#landed();
    if (Array.isArray(answer) && answer.length === 0 && !batch.isUnusual) {
      batch.isUnusual = true;
      batch.isTaught = false;
      this.#send(batch);
      return;
    }
    try {
      this.foreignValues += batch.resolve(answer);
    } catch (cause) {
      const message =
        "the Redis client answered the store's script with something else than a list of numbers";
      batch.reject(new SluiceError("store_unavailable", message, { cause, details: { mayHaveRun: true } }));
    }
  }

  #fail(batch: Batch, error: unknown): void {
    this.#landed();
    const refusal = refusalOf(error);
    if (refusal === "NOSCRIPT" && !batch.isTaught) {
      // The server is new, was restarted, or was told to forget.
      batch.isTaught = true;
      this.#send(batch);
      return;
    }
    // One server of a cluster, or a proxy before one, reached by a plain client.
    if (refusal === "CROSSSLOT" && batch.requests.length > 1) {
      this.#bySlot = true;
      for (const request of batch.requests) this.add(request);
    } else if (refusal === "CROSSSLOT") {
      this.#bySlot = true;
      batch.reject(error);
    } else if (refusal === "TRYAGAIN" && batch.requests.length > 1) {
      // The slot is moving, and its keys are in two places; each for itself is found.
      for (const request of batch.requests) {
        const single = new Batch();
        single.add(request);
        this.#send(single);
      }
    } else {
      batch.reject(failureOf(error));
    }
  }
}
