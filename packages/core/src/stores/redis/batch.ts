/** The requests of one turn that go to the server as one call of the script. */

import type { Verdict } from "../../limit/algorithms/verdict.ts";
import { Answer } from "./reading.ts";
import { ConsumeRequest, type Request, type Settler } from "./request.ts";
import type { RuleText } from "./rule-text.ts";

/** Requests in the order in which they were made. */
export class Batch {
  readonly requests: Request[] = [];
  /** The script's keys: those of all requests, one after the other. */
  readonly keys: string[] = [];
  /** Whether the script goes with it in full, since the server did not know it by name. */
  isTaught = false;
  /** Whether the script was asked in its shortest way and could not answer. */
  isUnusual = false;
  /** The last request on each key, which an equal one after it joins. */
  readonly #latest = new Map<string, Request>();

  /** Adds a request, or joins the one before it on this key if that asks for the same. */
  consume(key: string, rule: RuleText, cost: number, settler: Settler<Verdict>): void {
    const before = this.#latest.get(key);
    if (before instanceof ConsumeRequest && before.merge(rule, cost, settler)) return;
    this.add(new ConsumeRequest(key, rule, cost, settler));
  }

  add(request: Request): void {
    this.requests.push(request);
    for (const key of request.keys) {
      this.keys.push(key);
      this.#latest.set(key, request);
    }
  }

  /**
   * The script's parameters.
   * @param nowUs The present, for tests; 0 for the server's own.
   */
  parameters(nowUs: number): readonly string[] {
    const [first, second] = this.requests;
    const own = nowUs === 0 && second === undefined && !this.isUnusual ? first!.ownParameters() : undefined;
    if (own !== undefined) return own;
    const rules: RuleText[] = [];
    const indexOf = (rule: RuleText): number => {
      const index = rules.indexOf(rule);
      return index >= 0 ? index + 1 : rules.push(rule);
    };
    const alike = this.#alikeParameters();
    const operations =
      alike === undefined
        ? collapsed(this.requests.map((request) => request.operation(indexOf)))
        : [`${this.requests[0]!.operation(indexOf)},0`];
    const program = `[${nowUs},[${rules.map(({ json }) => json).join(",")}],[${operations.join(",")}]]`;
    const limits = alike === undefined ? "" : String(alike.length / alikeParameterCount);
    return [program, String(nowUs), limits, ...(alike ?? [])];
  }

  /** Settles every request. @returns How many values under our keys were not ours. */
  resolve(reply: unknown): number {
    const answer = new Answer(reply);
    for (const request of this.requests) request.resolve(answer);
    return answer.foreignValues;
  }

  reject(error: unknown): void {
    for (const request of this.requests) request.reject(error);
  }

  /** The parameters of all requests, if they ask the same of their keys. */
  #alikeParameters(): readonly string[] | undefined {
    const first = this.requests[0]!.alikeParameters();
    if (first === undefined) return undefined;
    const [head, ...others] = this.requests;
    const areAlike = others.every((request) => head!.isLike(request));
    return areAlike ? first : undefined;
  }
}

const alikeParameterCount = 10;

/** Each operation once, with how many in a row are the same. */
function collapsed(operations: readonly string[]): string[] {
  const runs: string[] = [];
  for (let i = 0; i < operations.length; ) {
    const operation = operations[i]!;
    const from = i;
    while (i < operations.length && operations[i] === operation) i++;
    runs.push(`${operation},${i - from}`);
  }
  return runs;
}
