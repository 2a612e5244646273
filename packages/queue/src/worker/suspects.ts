import type { ExchangeAnswer } from "../store/task-store.ts";

/** The right to ask for a suspect and to run it. */
export interface SuspectTurn {
  /** Gives the right back. Again: nothing. */
  end(): void;
}

/** A worker's one turn for suspects, shared by its queues. */
export class SuspectTurns {
  #current: SuspectTurn | undefined;
  readonly #line = new Set<() => void>();

  /** Calls `serve` once the turn is free: at once if it is now. */
  whenFree(serve: () => void): void {
    if (this.#current === undefined) serve();
    else this.#line.add(serve);
  }

  /** The turn; undefined if it is taken. */
  take(): SuspectTurn | undefined {
    if (this.#current !== undefined) return undefined;
    const turn = {
      end: () => {
        if (this.#current !== turn) return;
        this.#current = undefined;
        // Whoever cannot use it now must not keep it from the next. Who is served may join the line again.
        for (let count = this.#line.size; count > 0 && this.#current === undefined; count--) {
          const [next] = this.#line;
          this.#line.delete(next!);
          next!();
        }
      },
    };
    this.#current = turn;
    return turn;
  }
}

/**
 * One queue's part in it: at most one suspect asked for, granted or running, until its end is recorded or its lease is gone. It asks
 * only while the store says that suspects wait, so that a queue without any never stands in the way of one that has some.
 */
export class Suspects {
  readonly #turns: SuspectTurns;
  readonly #wake: () => void;
  #wait = false;
  #running: { readonly fence: number; readonly turn: SuspectTurn } | undefined;

  /** @param wake Called when it is worth asking again at once. */
  constructor(turns: SuspectTurns, wake: () => void) {
    this.#turns = turns;
    this.#wake = wake;
  }

  /** Before a claim: the turn, if there is something to use it for and it is free. */
  ask(): SuspectTurn | undefined {
    return this.#wait ? this.#turns.take() : undefined;
  }

  /** After a claim was answered: keeps the turn if it brought a suspect. */
  heard(answer: ExchangeAnswer, turn: SuspectTurn | undefined): void {
    const granted = answer.grants.find(({ suspect }) => suspect);
    this.#wait = answer.suspects > (granted === undefined ? 0 : 1);
    if (granted !== undefined && turn !== undefined) this.#running = { fence: granted.fence, turn };
    else turn?.end();
    // With the turn in hand and nothing to be had, the answer says when to ask again.
    if (this.#wait && turn === undefined) this.#turns.whenFree(this.#wake);
  }

  /** A lease of this queue has come to its end. */
  ended(fence: number): void {
    if (this.#running?.fence === fence) this.drop();
  }

  /** All leases are gone. */
  drop(): void {
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    running.turn.end();
    if (this.#wait) this.#turns.whenFree(this.#wake);
  }
}
