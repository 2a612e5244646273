import type { Clock, Timer } from "@sluice/core";
import { ending, type Grant, type Settlement } from "../store/task-store.ts";
import type { Attempt, AttemptEnd } from "./attempt.ts";
import type { Slots } from "./slots.ts";
import { StartQueue, type TimedGrant } from "./start-queue.ts";

/** What a starter needs of its dispatcher. */
export interface StartHost {
  readonly clock: Clock;
  readonly slots: Slots;
  /** True if grants come with times: their slots were taken when they were claimed. Otherwise they wait for slots here. */
  readonly paced: boolean;
  /** True if tasks of one lane run one after another. */
  readonly serial: boolean;
  /** Whether the worker's lease surely holds at a local instant. */
  holdsLease(nowUs: number): boolean;
  /** Starts the attempt; undefined when the worker has no handler for it. */
  begin(grant: Grant): { readonly attempt: Attempt; readonly end: Promise<AttemptEnd> } | undefined;
  ended(attempt: Attempt, end: AttemptEnd): void;
  /** A grant was not used because its end had passed. */
  late(grant: Grant, byUs: number): void;
  /** Ends a lease. */
  settle(settlement: Settlement): void;
  /** A lease is no longer ours to end. */
  forget(grant: Grant): void;
  /** There is a free slot and nothing here to use it. */
  idle(): void;
}

/** A handler that the worker lacks may come with the next deploy. */
const deferUs = 5_000_000;
/** How much the newest handler counts in how long they take. */
const handlerWeight = 1 / 16;

/**
 * Starts granted tasks on time, each in a slot. Tasks of one serial lane that were granted together run one after another in one
 * slot. What has not started can be given back at any moment.
 */
export class Starter {
  readonly #host: StartHost;
  readonly #timed = new StartQueue();
  readonly #ready: TimedGrant[] = [];
  /** What is still to follow in slots that are running. */
  readonly #following = new Set<TimedGrant[]>();
  #timer: Timer | undefined;
  #handlerUs = Number.POSITIVE_INFINITY;

  constructor(host: StartHost) {
    this.#host = host;
  }

  /** Grants that wait for a slot. */
  get waiting(): number {
    return this.#ready.length;
  }

  /** How long a handler takes, smoothed; infinite while none has ended. Measured for serial lanes only. */
  get handlerUs(): number {
    return this.#handlerUs;
  }

  /** Takes grants; returns how many slots they keep of those taken for them. */
  accept(grants: readonly TimedGrant[]): number {
    const firsts = this.#host.serial ? linkLanes(grants) : grants;
    if (!this.#host.paced) {
      for (const first of firsts) this.#ready.push(first);
      this.#runReady();
      return 0;
    }
    for (const first of firsts) this.#timed.add(first);
    this.#startDue();
    return firsts.length;
  }

  /** Gives back what has not started; of one task, or all. */
  giveBack(taskId?: string): void {
    this.#remove(taskId, ({ grant }) => giveBack(this.#host, grant));
  }

  /** Forgets what has not started: its leases are gone. */
  drop(): void {
    this.#remove(undefined, ({ grant }) => this.#host.forget(grant));
  }

  close(): void {
    this.#timer?.cancel();
    this.#host.slots.leave(this.#serve);
  }

  #remove(taskId: string | undefined, each: (item: TimedGrant) => void): void {
    const is = ({ grant }: TimedGrant): boolean => taskId === undefined || grant.taskId === taskId;
    // Chains are taken apart and what remains of them is put back: what follows a removed grant may still start.
    for (const item of this.#timed.takeAll()) {
      const [gone, kept] = split([item, ...(item.followers ?? [])], is);
      gone.forEach(each);
      const [first, ...followers] = kept;
      if (first === undefined) this.#host.slots.release(1);
      else this.#timed.add({ grant: first.grant, span: first.span, followers });
    }
    for (const item of this.#ready.splice(0)) {
      const [gone, kept] = split([item, ...(item.followers ?? [])], is);
      gone.forEach(each);
      const [first, ...followers] = kept;
      if (first !== undefined) this.#ready.push({ grant: first.grant, span: first.span, followers });
    }
    for (const chain of this.#following) {
      const [gone, kept] = split(chain, is);
      gone.forEach(each);
      chain.splice(0, chain.length, ...kept);
    }
  }

  readonly #serve = (): void => {
    if (this.#ready.length > 0) this.#runReady();
    else this.#host.idle();
  };

  /** Waits for a free slot, then runs what is ready or says that nothing is. */
  awaitSlot(): void {
    this.#host.slots.join(this.#serve);
  }

  #runReady(): void {
    const { slots } = this.#host;
    let next = 0;
    while (next < this.#ready.length && slots.take(1) === 1) this.#run(this.#ready[next++]!);
    if (next > 0) this.#ready.splice(0, next);
    if (this.#ready.length > 0) this.awaitSlot();
  }

  #startDue(): void {
    this.#timer?.cancel();
    for (const item of this.#timed.takeDue(this.#host.clock.nowUs())) this.#run(item);
    const next = this.#timed.nextUs;
    if (next === undefined) return;
    this.#timer = this.#host.clock.setTimer(() => this.#startDue(), next - this.#host.clock.nowUs());
  }

  #run(item: TimedGrant): void {
    const chain = item.followers === undefined ? [] : [...item.followers];
    if (chain.length > 0) this.#following.add(chain);
    this.#proceed(item, chain);
  }

  /** Starts a grant in a slot that is taken already, or the next of its chain; the slot is given back after the last. */
  #proceed(item: TimedGrant | undefined, chain: TimedGrant[]): void {
    for (let next = item; next !== undefined; next = chain.shift()) {
      const now = this.#host.clock.nowUs();
      if (now < next.span.fromUs) {
        this.#following.delete(chain);
        this.#timed.add({ grant: next.grant, span: next.span, followers: chain });
        this.#startDue();
        return;
      }
      if (this.#started(next, now, chain)) return;
    }
    this.#following.delete(chain);
    this.#host.slots.release(1);
  }

  /** Starts a grant unless its end has passed: the clock was read last, right before the handler is called. */
  #started(item: TimedGrant, now: number, chain: TimedGrant[]): boolean {
    const { grant, span } = item;
    const { taskId, fence, lane } = grant;
    if (now > span.untilUs || !this.#host.holdsLease(now)) {
      // What follows must not overtake it.
      for (const late of [item, ...chain.splice(0)]) {
        this.#host.late(late.grant, now - late.span.fromUs);
        giveBack(this.#host, late.grant);
      }
      return false;
    }
    const begun = this.#host.begin(grant);
    if (begun === undefined) {
      this.#host.settle({ taskId, fence, lane, kind: ending.deferred, body: null, delayUs: deferUs });
      return false;
    }
    void begun.end.then((end) => {
      if (this.#host.serial) this.#measure(now);
      this.#host.ended(begun.attempt, end);
      if (begun.attempt.dropped) this.#host.forget(grant);
      else this.#host.settle(end.settlement);
      this.#proceed(chain.shift(), chain);
    });
    return true;
  }

  #measure(startedUs: number): void {
    const took = this.#host.clock.nowUs() - startedUs;
    this.#handlerUs = Number.isFinite(this.#handlerUs)
      ? this.#handlerUs + (took - this.#handlerUs) * handlerWeight
      : took;
  }
}

function giveBack(host: StartHost, { taskId, fence, lane }: Grant): void {
  host.settle({ taskId, fence, lane, kind: ending.givenBack, body: null, delayUs: 0 });
}

/** Grants of one lane, joined to the first of them. Grants come in order of start. */
function linkLanes(grants: readonly TimedGrant[]): TimedGrant[] {
  const lanes = new Map<number, { grant: Grant; span: TimedGrant["span"]; followers: TimedGrant[] }>();
  for (const item of grants) {
    const first = lanes.get(item.grant.lane);
    if (first === undefined) lanes.set(item.grant.lane, { ...item, followers: [] });
    else first.followers.push(item);
  }
  return [...lanes.values()];
}

function split(
  items: readonly TimedGrant[],
  is: (item: TimedGrant) => boolean,
): [TimedGrant[], TimedGrant[]] {
  return [items.filter(is), items.filter((item) => !is(item))];
}
