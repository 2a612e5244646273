/** The requests of one turn that go to the server as one call of the script. */

import type { Verdict } from "../../limit/algorithms/verdict.ts";
import { Answer } from "./reading.ts";
import { ConsumeRequest, type Request, type Settler } from "./request.ts";
import type { Call, RuleText } from "./rule-text.ts";
import { scripts } from "./script.generated.ts";

/** Requests in the order in which they were made. */
export class Batch {
  readonly requests: Request[] = [];
  /** The script's keys: those of all requests, one after the other. */
  readonly keys: string[] = [];
  /** Whether the script goes with it in full, since the server did not know it by name. */
  isTaught = false;
  /** Whether the script was asked in its shortest way and could not answer. */
  isUnusual = false;
  /** The last request on each key, which an equal one after it joins. Made for the second request: most are alone. */
  #latest: Map<string, Request> | undefined;

  /** Adds a request, or joins the one before it on this key if that asks for the same. */
  consume(key: string, rule: RuleText, cost: number, settler: Settler<Verdict>): void {
    if (this.requests.length > 0) {
      const before = this.#latestByKey().get(key);
      if (before instanceof ConsumeRequest && before.merge(rule, cost, settler)) return;
    }
    this.add(new ConsumeRequest(key, rule, cost, settler));
  }

  add(request: Request): void {
    const latest = this.requests.length > 0 ? this.#latestByKey() : undefined;
    this.requests.push(request);
    for (const key of request.keys) {
      this.keys.push(key);
      latest?.set(key, request);
    }
  }

  #latestByKey(): Map<string, Request> {
    if (this.#latest === undefined) {
      const [first] = this.requests;
      this.#latest = new Map(first?.keys.map((key) => [key, first]));
    }
    return this.#latest;
  }

  /**
   * The script, and its parameters.
   * @param nowUs The present, for tests; 0 for the server's own.
   */
  call(nowUs: number): Call {
    const own = this.requests.length === 1 && !this.isUnusual ? this.requests[0]!.ownCall() : undefined;
    if (own !== undefined && nowUs === 0) return own;
    if (own !== undefined)
      return { script: own.script, parameters: [String(nowUs), ...own.parameters.slice(1)] };
    return { script: scripts.general, parameters: this.#generalParameters(nowUs) };
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

  #generalParameters(nowUs: number): readonly string[] {
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
    const program = `[[${rules.map(({ json }) => json).join(",")}],[${operations.join(",")}]]`;
    const limits = alike === undefined ? "" : String(alike.length / alikeParameterCount);
    return [String(nowUs), program, limits, ...(alike ?? [])];
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
