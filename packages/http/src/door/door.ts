/**
 * The door: what happens to a request between its arrival and its handler, without any framework.
 *
 *     skip? ──► keys and costs ──► one decision over all limits ──► pass, with headers
 *                                        │                     └──► refuse: 429, or 503 when capacity is the server's trouble
 *                                        └─ store failed ──► pass, refuse with 503, or fail, as `storeFailure` says
 */
import { createHmac } from "node:crypto";
import { type Clock, type Decision, isSluiceError, systemClock } from "@sluice/core";
import { type Problem, problemType, quotaExceeded, temporaryReducedCapacity } from "../codec/problem.ts";
import {
  type Header,
  type QuotaReport,
  rateLimitHeaders,
  retryAfterText,
} from "../codec/rate-limit-fields.ts";
import { type AddressResolver, clientAddress } from "../keys/client-address.ts";
import type { DoorRequest } from "../keys/door-request.ts";
import { safeKey } from "../keys/key.ts";
import { type Draw, decide, reserve } from "./decide.ts";
import {
  type DoorLimits,
  type DoorOptions,
  type ResolvedDoor,
  type ResolvedRule,
  resolveDoor,
} from "./door-options.ts";
import type { Answered, Denial, Outcome, Refusal } from "./outcome.ts";

const passed: Outcome = { headers: [], refusal: undefined, decisions: [], settle: undefined };

/** Decides about requests. Made once, asked for each request; one request is counted once, however often it is shown. */
export class Door {
  readonly #options: ResolvedDoor;
  readonly #addressOf: AddressResolver;
  readonly #clock: Clock;
  readonly #seen = new WeakSet<object>();
  readonly #warned = new Set<string>();

  /** @throws `invalid_option`. */
  constructor(limits: DoorLimits, options?: DoorOptions) {
    this.#options = resolveDoor(limits, options);
    this.#addressOf = clientAddress(this.#options.trust);
    this.#clock = this.#options.clock ?? systemClock;
  }

  /** @throws What a resolver of keys or costs throws, and with `storeFailure: "error"` what the store throws. */
  async check(given: DoorRequest): Promise<Outcome> {
    if (this.#isRepeated(given.native)) return passed;
    const request = { ...given, header: (name: string) => given.header(name), addressOf: this.#addressOf };
    this.#warnOfUntrusted(request);
    if (await this.#options.skip?.(request)) return passed;
    const [enforced, trials] = await this.#draws(request);
    const dry = await this.#tryOut(trials, request);
    try {
      return this.#outcome(request, await this.#ask(enforced), dry);
    } catch (error) {
      return this.#failed(request, enforced, error);
    }
  }

  /** One decision over all parts; with debits that can be corrected only if some rule will. */
  async #ask(parts: readonly Part[]): Promise<Asked> {
    const draws = parts.map(({ draw }) => draw);
    const { decisions, settle } = parts.some(({ rule }) => rule.settle !== undefined)
      ? await reserve(draws)
      : { decisions: await decide(draws), settle: undefined };
    return { parts: parts.map((part, i) => ({ ...part, decision: decisions[i]! })), settle };
  }

  #isRepeated(native: unknown): boolean {
    if (typeof native !== "object" || native === null) return false;
    const repeated = this.#seen.has(native);
    this.#seen.add(native);
    return repeated;
  }

  /** What a request draws, of the limits that are enforced and of those in dry run. */
  async #draws(request: DoorRequest): Promise<readonly [enforced: Part[], trials: Part[]]> {
    const enforced: Part[] = [];
    const trials: Part[] = [];
    for (const rule of this.#options.rules) {
      if (await rule.skip?.(request)) continue;
      const key = await rule.key(request);
      const cost = typeof rule.cost === "function" ? await rule.cost(request) : rule.cost;
      if (key === undefined || cost === 0) continue;
      const draw = { limit: rule.limit, key: key === "" ? key : safeKey(key), cost };
      (rule.dryRun ? trials : enforced).push({ rule, draw });
    }
    return [enforced, trials];
  }

  /** Limits in dry run are asked one by one, so that none holds up another, and what goes wrong with them is only told. */
  async #tryOut(trials: readonly Part[], request: DoorRequest): Promise<readonly Asked[]> {
    const asked: Asked[] = [];
    for (const part of trials) {
      try {
        asked.push(await this.#ask([part]));
      } catch (error) {
        this.#report(error, request);
      }
    }
    return asked;
  }

  #outcome(request: DoorRequest, asked: Asked, dry: readonly Asked[]): Outcome {
    const refusing = asked.parts.filter(({ decision }) => !decision.allowed);
    const dryParts = dry.flatMap(({ parts }) => parts);
    const refusingAtAll = [...refusing, ...dryParts.filter(({ decision }) => !decision.allowed)];
    const jitterMs = refusing.length === 0 ? 0 : this.#jitterMs();
    const headers = this.#headers(asked.parts, jitterMs);
    const refusal = refusing.length === 0 ? undefined : this.#refuse(refusing, jitterMs);
    const dryRun = refusal === undefined;
    if (refusingAtAll.length > 0)
      this.#tell({ request, decisions: refusingAtAll.map(decisionOf), dryRun, problem: refusal?.problem });
    const decisions = [...asked.parts, ...dryParts].map(decisionOf);
    return { headers, refusal, decisions, settle: this.#settlement(request, [asked, ...dry]) };
  }

  #settlement(request: DoorRequest, asked: readonly Asked[]): Outcome["settle"] {
    const open = asked.filter(({ settle }) => settle !== undefined);
    if (open.length === 0) return undefined;
    return async (answer: Answered) => {
      for (const { parts, settle } of open.splice(0)) {
        try {
          await settle!(parts.map(({ rule, draw }) => rule.settle?.(answer, request) ?? draw.cost));
        } catch (error) {
          this.#report(error, request);
        }
      }
    };
  }

  #headers(parts: readonly Decided[], jitterMs: number): readonly Header[] {
    const { headers } = this.#options;
    const shown = parts.filter(({ rule }) => !rule.hidden);
    if (headers === undefined || shown.length === 0) return [];
    const nowMs = this.#clock.nowUs() / 1000;
    const written = rateLimitHeaders(
      shown.map((part) => this.#quotaOf(part, nowMs)),
      { draft: headers.draft, legacy: headers.legacy, nowMs, jitterMs },
    );
    // The refusal has its own, which speaks of hidden limits too.
    return written.filter(([name]) => name !== "Retry-After");
  }

  #quotaOf({ rule, draw, decision }: Decided, nowMs: number): QuotaReport {
    const { limit, periodUs } = rule.limit.rate;
    const windowMs = periodUs / 1000;
    // Bounded by what the limit can take to recover, in case the store's clock is not ours.
    const longestMs = Math.max(windowMs, (windowMs * rule.limit.capacity) / limit);
    const resetMs = Math.min(Math.max(0, decision.resetAt - nowMs), longestMs);
    const retryAfterMs = decision.allowed ? 0 : decision.retryAfterMs;
    return {
      name: rule.name,
      limit,
      windowMs,
      remaining: decision.remaining,
      resetMs: retryAfterMs > 0 && retryAfterMs < Infinity ? retryAfterMs : resetMs,
      retryAfterMs,
      partition: this.#partition(rule, draw.key),
    };
  }

  #partition(rule: ResolvedRule, key: string): Uint8Array | undefined {
    const secret = this.#options.headers?.partitionSecret;
    if (secret === undefined || key === "") return undefined;
    return createHmac("sha256", secret).update(`${rule.name}\0${key}`).digest().subarray(0, 12);
  }

  #refuse(refusing: readonly Decided[], jitterMs: number): Refusal {
    const isOutage = refusing.every(({ decision }) => decision.mode === "closed");
    const longestMs = Math.max(...refusing.map(({ decision }) => decision.retryAfterMs));
    const shown = refusing.filter(({ rule }) => !rule.hidden).map(({ rule }) => rule.name);
    const problem = isOutage ? temporaryReducedCapacity() : quotaExceeded(shown);
    return this.#refusal(problem, longestMs + jitterMs);
  }

  #refusal(problem: Problem, retryAfterMs: number): Refusal {
    const again: readonly Header[] =
      retryAfterMs < Infinity ? [["Retry-After", retryAfterText(retryAfterMs)]] : [];
    // RFC 6585 forbids caches to keep a 429; a 503 must not outlive its cause either.
    const headers: readonly Header[] = [...again, ["Cache-Control", "no-store"]];
    return {
      status: problem.status,
      headers: [...headers, ["Content-Type", problemType]],
      body: JSON.stringify(problem),
      problem,
    };
  }

  /** A store that holds too many keys refuses the newcomer; any other failure of a store is not the client's. */
  #failed(request: DoorRequest, enforced: readonly Part[], error: unknown): Outcome {
    if (isSluiceError(error, "too_many_keys")) {
      this.#report(error, request);
      const shown = enforced.filter(({ rule }) => !rule.hidden).map(({ rule }) => rule.name);
      return { ...passed, refusal: this.#refusal(quotaExceeded(shown), 1000 + this.#jitterMs()) };
    }
    if (!isSluiceError(error) || error.family !== "store" || this.#options.storeFailure === "error")
      throw error;
    this.#report(error, request);
    if (this.#options.storeFailure === "open") return passed;
    return { ...passed, refusal: this.#refusal(temporaryReducedCapacity(), 1000 + this.#jitterMs()) };
  }

  #jitterMs(): number {
    const { headers, random } = this.#options;
    return (headers?.jitterMs ?? 0) * random();
  }

  #tell(denial: Denial): void {
    try {
      this.#options.onDenied?.(denial);
    } catch (error) {
      this.#report(error, denial.request);
    }
  }

  #report(error: unknown, request: DoorRequest): void {
    if (this.#options.onError !== undefined) this.#options.onError(error, request);
    else
      this.#warnOnce(
        "failure",
        `a limit could not be asked: ${error instanceof Error ? error.message : String(error)}`,
      );
  }

  #warnOfUntrusted(request: DoorRequest): void {
    if (this.#options.trust !== undefined || this.#warned.has("untrusted")) return;
    const header = ["x-forwarded-for", "forwarded"].find((name) => request.header(name) !== undefined);
    if (header === undefined || !this.#options.usesAddress) return;
    this.#warnOnce(
      "untrusted",
      `a request came with ${header}, but no proxy is trusted, so its client is the address of the socket: ` +
        "behind a proxy give the option trust, or else every client shares one budget",
    );
  }

  #warnOnce(kind: string, text: string): void {
    if (this.#warned.has(kind)) return;
    this.#warned.add(kind);
    process.emitWarning(text, { type: "SluiceWarning", code: "SLUICE_DOOR" });
  }
}

interface Part {
  readonly rule: ResolvedRule;
  readonly draw: Draw;
}

interface Decided extends Part {
  readonly decision: Decision;
}

/** Parts that were decided together, and the way to correct what was debited for them. */
interface Asked {
  readonly parts: readonly Decided[];
  readonly settle: ((actuals: readonly number[]) => Promise<void>) | undefined;
}

function decisionOf({ decision }: Decided): Decision {
  return decision;
}
