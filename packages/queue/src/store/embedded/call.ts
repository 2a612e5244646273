/** One request to the engine with a deadline: how its answer and its failures look to the caller. */
import { assert } from "@sluice/core";
import type { Row, Value } from "../database.ts";
import { deadlinePassed, type FailurePlace, translateError } from "../database-errors.ts";
import type { Asked, Engine } from "./engine.ts";
import type { EngineAnswer, Parameter } from "./protocol.ts";

/** A request, and how it comes to an engine. */
export interface EngineCall {
  readonly place: FailurePlace;
  readonly deadlineMs: number;
  /** What to ask, of whichever engine there is when its turn comes. */
  ask(engine: Engine): Asked;
  /**
   * Waits for the turn and calls `begin`, or `refuse` if it will not come. Returns the function that withdraws it:
   * false if it has begun.
   */
  enter(begin: (engine: Engine) => Promise<unknown>, refuse: (error: unknown) => void): () => boolean;
}

/**
 * Asks the engine and waits for its answer until the deadline, which counts from now. Past that it rejects with
 * `store_timeout`, and the engine is watched: if it does not come to an end soon, it is ended.
 */
export function callEngine({ place, deadlineMs, ask, enter }: EngineCall): Promise<EngineAnswer> {
  return new Promise((resolve, reject) => {
    let abandon = (): void => {};
    const timer = setTimeout(() => {
      const neverRan = withdraw();
      abandon();
      const why = neverRan
        ? "its turn did not come, and it never ran"
        : "the statement may have taken effect";
      reject(deadlinePassed(place, deadlineMs, why));
    }, deadlineMs);
    const refuse = (error: unknown): void => {
      clearTimeout(timer);
      reject(translateError(error, place));
    };
    const begin = (engine: Engine): Promise<unknown> => {
      const { id, answer } = ask(engine);
      abandon = () => engine.abandon(id);
      answer.then((result) => {
        clearTimeout(timer);
        resolve(result);
      }, refuse);
      return answer;
    };
    const withdraw = enter(begin, refuse);
  });
}

/**
 * Parameters as PostgreSQL reads them. As with the other driver undefined is NULL; what is no {@link Value} at all is refused here,
 * because the engine would die of it and every other caller with it.
 * @throws `invariant_broken` for a value of another type.
 */
export function toParameters(values: readonly (Value | bigint | undefined)[]): Parameter[] {
  return values.map((value, index) => {
    if (value === undefined || value === null) return null;
    if (typeof value === "string" || value instanceof Uint8Array) return value;
    const plain = typeof value === "number" || typeof value === "boolean" || typeof value === "bigint";
    assert(plain, `parameter $${index + 1}: ${typeof value} is no value of a statement`);
    return String(value);
  });
}

/** Rows by column name. */
export function toRows({ columns, rows }: EngineAnswer): Row[] {
  return rows.map((values) => {
    const row: Row = {};
    for (let index = 0; index < columns.length; index += 1) row[columns[index] as string] = values[index];
    return row;
  });
}
