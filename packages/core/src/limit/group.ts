/**
 * Several limits asked as one: the draws on each, and the one verdict made of theirs.
 */
import { SluiceError } from "../base/errors.ts";
import { waitBound } from "./algorithms/policy.ts";
import type { Verdict } from "./algorithms/verdict.ts";
import type { Budget } from "./budget.ts";
import { type Gate, requireAdmissible, requireCost, slotSleepUsMax } from "./gate.ts";
import type { LineSource } from "./line.ts";
import { type Answer, type Draw, isLater, isNearStore, type LimitStore, whenAnswered } from "./store.ts";

/** One limit of a group: a limit, or a key of it, and what is taken from it. */
export interface Part {
  readonly limit: Budget;
  readonly cost: number;
}

/** The verdict over a group, with those of its parts. */
export interface GroupVerdict extends Verdict {
  readonly parts: readonly Verdict[];
}

/** A part, and the draw it belongs to: parts on the same budget are one draw. */
interface Member {
  readonly gate: Gate;
  readonly key: string;
  readonly cost: number;
  readonly drawIndex: number;
}

/** The limits of one `all()`. */
export class Group implements LineSource<GroupVerdict> {
  readonly members: readonly Member[];
  readonly sleepUsMax: number;
  /** What the group is called: the names of its limits. */
  readonly name: string;
  readonly #store: LimitStore;
  /** Whose budgets are drawn from, each once, and how much. */
  readonly #draws: readonly { readonly gate: Gate; readonly key: string; readonly cost: number }[];

  /** @throws `invalid_option`, `invalid_cost`. */
  constructor(parts: readonly Part[]) {
    const draws: { gate: Gate; key: string; cost: number }[] = [];
    this.members = parts.map(({ limit: { gate, key }, cost }) => {
      requireCost(cost);
      let drawIndex = draws.findIndex((draw) => draw.gate.name === gate.name && draw.key === key);
      if (drawIndex < 0 || draws[drawIndex]!.gate.store !== gate.store) {
        drawIndex = draws.push({ gate, key, cost: 0 }) - 1;
      }
      draws[drawIndex]!.cost += cost;
      return { gate, key, cost, drawIndex };
    });
    this.#draws = draws;
    this.#store = storeOf(draws.map(({ gate }) => gate));
    const gates = draws.map(({ gate }) => gate);
    this.name = [...new Set(gates.map(({ name }) => name))].join(" + ");
    const hasSlots = gates.some(({ rule }) => rule.policy.algorithm === "concurrency");
    this.sleepUsMax = hasSlots ? slotSleepUsMax : Infinity;
  }

  /** The gate that says how the group answers, and on whose clock it waits. */
  get gate(): Gate {
    return this.members[0]!.gate;
  }

  requireOpen(): void {
    for (const { gate } of this.#draws) gate.requireOpen();
  }

  /** @throws `cost_exceeds_capacity` when one of the limits never admits its part. */
  requireAdmissible(): void {
    for (const { gate, cost } of this.#draws) requireAdmissible(gate.rule, cost);
  }

  ask(): Answer<GroupVerdict> {
    this.requireOpen();
    const draws = this.#draws.map(({ gate, key, cost }) => ({ rule: gate.rule, key, cost }));
    return whenAnswered(this.#consumeAll(draws), (verdicts) => this.#whole(verdicts));
  }

  peek(): Answer<GroupVerdict> {
    return this.#peekAll((draw) => ({ probe: draw.cost, extraUs: 0 }));
  }

  expect(_key: string, total: number): Answer<GroupVerdict> {
    return this.#peekAll(({ gate, cost }) => waitBound(cost * total, gate.rule.policy));
  }

  #peekAll(
    boundOf: (draw: { gate: Gate; cost: number }) => { probe: number; extraUs: number },
  ): Answer<GroupVerdict> {
    this.requireOpen();
    const answers = this.#draws.map((draw) => {
      const { probe, extraUs } = boundOf(draw);
      return whenAnswered(draw.gate.store.peek(draw.gate.rule, draw.key, probe), (verdict) =>
        extraUs === 0 ? verdict : { ...verdict, retryAfterUs: verdict.retryAfterUs + extraUs },
      );
    });
    if (!answers.some(isLater)) return this.#whole(answers as Verdict[]);
    return Promise.all(answers).then((verdicts) => this.#whole(verdicts));
  }

  #consumeAll(draws: readonly Draw[]): Answer<readonly Verdict[]> {
    const isOneStore = this.#draws.every(({ gate }) => gate.store === this.#store);
    return isOneStore ? this.#store.consumeAll(draws) : this.#consumeNear(draws);
  }

  /** Stores at hand need not be one: nothing comes between the calls. */
  #consumeNear(draws: readonly Draw[]): readonly Verdict[] {
    const stores = this.#draws.map(({ gate }) => gate.store);
    const seen = draws.map(({ rule, key, cost }, i) => stores[i]!.peek(rule, key, cost) as Verdict);
    if (!seen.every(({ allowed }) => allowed)) return seen;
    const debited: Verdict[] = [];
    try {
      for (const [i, { rule, key, cost }] of draws.entries()) {
        debited.push(stores[i]!.consume(rule, key, cost) as Verdict);
      }
    } catch (error) {
      for (const [i, { atUs, granted, fence }] of debited.entries()) {
        const { rule, key } = draws[i]!;
        if (fence > 0) void stores[i]!.release(rule, key, fence);
        else void stores[i]!.settle(rule, key, { atUs, cost: granted }, 0);
      }
      throw error;
    }
    return debited;
  }

  #whole(verdicts: readonly Verdict[]): GroupVerdict {
    const allowed = verdicts.every((verdict) => verdict.allowed);
    const times = verdicts.map(({ remaining }, i) => Math.floor(remaining / this.#draws[i]!.cost));
    const mode = verdicts.find((verdict) => (verdict.mode ?? "normal") !== "normal")?.mode;
    return {
      allowed,
      never: verdicts.some(({ never }) => never),
      remaining: Math.min(...times),
      // Each passes from its own time on, if nobody else asks: together they pass from the last one's.
      retryAfterUs: Math.max(...verdicts.map(({ retryAfterUs }) => retryAfterUs)),
      resetAtUs: Math.max(...verdicts.map(({ resetAtUs }) => resetAtUs)),
      granted: allowed ? Math.min(...verdicts.map(({ granted }) => granted)) : 0,
      atUs: Math.max(...verdicts.map(({ atUs }) => atUs)),
      fence: 0,
      ...(mode === undefined ? {} : { mode }),
      parts: this.members.map(({ drawIndex }) => verdicts[drawIndex]!),
    };
  }
}

function storeOf(gates: readonly Gate[]): LimitStore {
  const [first, ...others] = gates;
  if (first === undefined) throw refused("expected at least one limit");
  const stores = [first, ...others].map(({ store }) => store);
  if (stores.every((store) => store === first.store) || stores.every(isNearStore)) return first.store;
  const names = gates.map(({ name }) => JSON.stringify(name)).join(", ");
  throw refused(`${names} are in different stores: one decision over them needs one store`);
}

function refused(message: string): SluiceError {
  return new SluiceError("invalid_option", `all: ${message}`);
}
