import { SluiceError } from "@sluice/core";
import { decodePayload, encodePayload } from "../task/payload.ts";

/** Where the steps of one attempt are kept. */
export interface StepRecords {
  /** The steps recorded by earlier attempts. */
  list(): Promise<ReadonlyMap<string, string | null>>;
  /** Keeps a result; resolves to the one that stands, undefined when the lease is gone. */
  record(name: string, result: string | null): Promise<{ result: string | null } | undefined>;
}

/** The durable steps of one attempt: each body runs until its result is recorded, and never after. */
export class Steps {
  readonly #owner: string;
  readonly #records: StepRecords;
  readonly #signal: () => AbortSignal;
  readonly #used = new Set<string>();
  #earlier: Promise<ReadonlyMap<string, string | null>> | undefined;

  constructor(owner: string, records: StepRecords, firstAttempt: boolean, signal: () => AbortSignal) {
    this.#owner = owner;
    this.#records = records;
    this.#signal = signal;
    // A first attempt has nothing to look up.
    this.#earlier = firstAttempt ? Promise.resolve(new Map()) : undefined;
  }

  async run<Result>(name: string, fn: () => Result | Promise<Result>): Promise<Result> {
    if (
      typeof name !== "string" ||
      name.length === 0 ||
      name.length > 200 ||
      /[\0\p{Surrogate}]/u.test(name)
    ) {
      throw new SluiceError(
        "invalid_key",
        `${this.#owner}: a step's name is a string of 1 to 200 characters, got ${JSON.stringify(name)}`,
      );
    }
    if (this.#used.has(name)) {
      throw new SluiceError(
        "step_mismatch",
        `${this.#owner}: step ${JSON.stringify(name)} was used before in this attempt; number the steps of a loop`,
      );
    }
    this.#used.add(name);
    this.#signal().throwIfAborted();
    this.#earlier ??= this.#records.list();
    const earlier = await this.#earlier;
    const recorded = earlier.get(name);
    if (recorded !== undefined) return decodePayload(recorded) as Result;
    this.#signal().throwIfAborted();
    const result = encodePayload(`${this.#owner}, step ${JSON.stringify(name)}`, "step result", await fn());
    const standing = await this.#records.record(name, result);
    if (standing === undefined) {
      throw new SluiceError(
        "lease_lost",
        `${this.#owner}: the lease was lost before step ${JSON.stringify(name)} could be recorded`,
      );
    }
    return decodePayload(standing.result) as Result;
  }
}
