import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import type { Charge, Verdict } from "./algorithms/verdict.ts";
import { Budget, type Reply, type Timing } from "./budget.ts";
import type { Decision } from "./decision.ts";
import type { Gate } from "./gate.ts";

/** @internal */
export interface ReservationParts {
  readonly gate: Gate;
  readonly key: string;
  readonly verdict: Verdict;
  readonly decision: Decision;
}

/**
 * A debit that can still be corrected: settled to what was used, more or less than was reserved, or cancelled. Once.
 *
 * @example
 *     const tokens = limit("tokens", "90000/60s");
 *     const reservation = tokens.reserve(estimate);
 *     if (!reservation.allowed) return busy(reservation.decision.retryAfterMs);
 *     const answer = await ask();
 *     reservation.settle(answer.usage.totalTokens);
 */
export class Reservation<When extends Timing = Timing> {
  /** The answer: what was reserved, or why not. */
  readonly decision: Decision;
  readonly #budget: Budget<When>;
  /** What is left to be corrected; undefined once it was, or when nothing was debited. */
  #charge: Charge | undefined;

  /** @internal */
  constructor({ gate, key, verdict, decision }: ReservationParts) {
    this.decision = decision;
    this.#budget = new Budget(gate, key);
    this.#charge = verdict.allowed ? chargeOf(verdict) : undefined;
  }

  /** Whether the cost was reserved. */
  get allowed(): boolean {
    return this.decision.allowed;
  }

  /**
   * Corrects the debit to `actual`. Less than was reserved gives back what of it is still in the state: a window that has
   * rolled on, or a bucket that has refilled, gets nothing. More debits the rest, into debt if need be, which is at most what
   * a period is worth.
   * @param actual A whole number of at least 0.
   * @throws `invalid_cost`; `not_settleable` when it was settled or cancelled before, or never admitted.
   */
  settle(actual: number): Reply<When, void> {
    return this.#budget.reply(() => {
      requireActual(actual);
      const charge = this.#charge;
      if (charge === undefined) throw notSettleable(this.decision.limit);
      this.#charge = undefined;
      return this.#budget.gate.settle(this.#budget.key, charge, actual);
    });
  }

  /**
   * Gives all of it back, as far as it is still in the state. Does nothing for a reservation that was denied.
   * @throws `not_settleable` when it was settled or cancelled before.
   */
  cancel(): Reply<When, void> {
    return this.allowed ? this.settle(0) : this.#budget.reply(() => {});
  }

  /** Cancels what was neither settled nor cancelled when `await using` leaves its block. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#charge !== undefined) await this.cancel();
  }
}

/** What a verdict says was debited. */
export function chargeOf({ atUs, granted, mode }: Verdict): Charge {
  return { atUs, cost: granted, ...(mode === undefined ? {} : { mode }) };
}

/** @throws `invalid_cost`. */
export function requireActual(actual: number): void {
  if (Number.isSafeInteger(actual) && actual >= 0) return;
  const got = describeValue(actual);
  throw new SluiceError("invalid_cost", `settle: expected a whole number of at least 0, got ${got}`);
}

export function notSettleable(limit: string): SluiceError {
  return new SluiceError(
    "not_settleable",
    `limit "${limit}": the reservation was settled or cancelled before, or was never admitted`,
  );
}
