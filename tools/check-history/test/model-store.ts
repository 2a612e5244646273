/**
 * A naive store for the simulator: one queue engine in memory, every call atomic, honest unless told which single
 * promise to break. It shares no code with the product; it exists to write histories whose verdict is known.
 */
import type { Policies, RatePolicy } from "../history.ts";

/** The promises the simulator can break, each with the invariant that has to notice. */
export const defects = {
  "fence removed": "Q3",
  "completion without a lease": "Q3",
  "success without a handler": "Q3",
  "token refunded on recovery": "RL1b",
  "window off by one": "RL1",
  "caller's clock": "RL1",
  "grant without an end": "RL1",
  "burst beyond its bound": "RL1b",
  "double enqueue on retry": "Q1",
  "acknowledged task lost in a restart": "Q1",
  "bulk enqueue torn": "Q1",
  "retry timer lost": "Q2",
  "fence not raised": "Q4",
  "step recorded without a lease": "Q4",
  "lease ended early": "Q5",
  "ledger entry missing on recovery": "Q6",
  "token charged twice": "Q6",
  "grant started twice": "Q6",
  "concurrency off by one under race": "Q7",
  "slot counter leaked": "Q7",
  "first in first out by timestamp": "Q8",
  "lane stuck after recovery": "Q9",
  "recovery never": "Q10",
  "no reconnect": "Q10",
  "worker ends when the database goes": "Q10",
  "stale reading": "Q12",
  "step body run again": "Q15",
  "step output replaced by a zombie": "Q15",
  "counts drift": "Q22",
  "timer left over": "Q22",
} as const;
export type Defect = keyof typeof defects;

export interface ModelTask {
  readonly id: string;
  readonly item: string;
  readonly queue: string;
  readonly partition: string;
  readonly order: number;
  state: string;
  attempt: number;
  fence: number;
  result: string | null;
  readonly enqueuedAt: number;
  startedAt: number | null;
  finishedAt: number | null;
  dueAt: number;
  leaseUntil: number;
  readonly steps: Map<string, { value: string; fence: number; at: number }>;
}

export interface ModelGrant {
  readonly task: ModelTask;
  readonly fence: number;
  readonly attempt: number;
  readonly start: number;
  readonly limited: boolean;
}

interface Lane {
  readonly waiting: ModelTask[];
  running: number;
  next: number;
}

interface Queue {
  readonly lanes: Map<string, Lane>;
  next: number;
  running: number;
  turn: number;
}

export interface NewTask {
  readonly item: string;
  readonly queue: string;
  readonly partition: string;
  readonly key: string | null;
  readonly delayMs: number;
  /** The caller's clock: what only a broken store would order by. */
  readonly callerTime: number;
}

export interface LedgerRow {
  readonly queue: string;
  readonly partition: string | null;
  readonly at: number;
  readonly starts: number[];
  readonly tasks: string[];
  readonly fences: number[];
}

const horizonUs = 200_000;

export class ModelStore {
  readonly tasks: Map<string, ModelTask> = new Map();
  /** Tasks that have not ended. */
  readonly live: Set<ModelTask> = new Set();
  readonly ledger: LedgerRow[] = [];
  readonly #keys = new Map<string, ModelTask>();
  readonly #queues = new Map<string, Queue>();
  readonly #policies: Policies;
  readonly #defect: Defect | null;
  readonly #random: () => number;
  #order = 0;
  drift = 0;

  constructor(policies: Policies, defect: Defect | null, random: () => number) {
    this.#policies = policies;
    this.#defect = defect;
    this.#random = random;
    for (const name of Object.keys(policies.queues))
      this.#queues.set(name, { lanes: new Map(), next: 0, running: 0, turn: 0 });
  }

  enqueue(items: readonly NewTask[], now: number): { id: string; duplicate: boolean }[] {
    const kept =
      this.#defect === "bulk enqueue torn" && items.length > 2 && this.#random() < 0.3 ? 2 : items.length;
    return items.map((item, index) => {
      const known = item.key === null ? undefined : this.#keys.get(`${item.queue} ${item.key}`);
      if (known !== undefined && this.#defect !== "double enqueue on retry")
        return { id: known.id, duplicate: true };
      const byTimestamp = this.#defect === "first in first out by timestamp";
      this.#order += 1;
      const task: ModelTask = {
        id: `t${this.#order}`,
        item: item.item,
        queue: item.queue,
        partition: item.partition,
        order: byTimestamp ? item.callerTime : this.#order,
        state: item.delayMs > 0 ? "scheduled" : "waiting",
        attempt: 0,
        fence: 0,
        result: null,
        enqueuedAt: now,
        startedAt: null,
        finishedAt: null,
        dueAt: now + item.delayMs * 1000,
        leaseUntil: 0,
        steps: new Map(),
      };
      if (index >= kept) return { id: task.id, duplicate: false };
      this.tasks.set(task.id, task);
      this.live.add(task);
      if (item.key !== null) this.#keys.set(`${item.queue} ${item.key}`, task);
      if (task.state === "waiting") this.#wait(task);
      return { id: task.id, duplicate: false };
    });
  }

  claim(queueName: string, room: number, now: number): ModelGrant[] {
    this.#promote(queueName, now);
    const policy = this.#policies.queues[queueName] as Policies["queues"][string];
    const queue = this.#queues.get(queueName) as Queue;
    const grants: ModelGrant[] = [];
    const race = this.#defect === "concurrency off by one under race" && this.#random() < 0.2 ? 1 : 0;
    const lanes = [...queue.lanes.entries()];
    for (let skipped = 0; skipped < lanes.length && grants.length < room; ) {
      const [partition, lane] = lanes[queue.turn++ % lanes.length] as [string, Lane];
      const full =
        queue.running >= (policy.concurrency ?? Infinity) + race ||
        lane.running >= (policy.partition.concurrency ?? Infinity) + race;
      const task = lane.waiting[0];
      const start = Math.max(
        now,
        this.#earliest(queue, policy.rate),
        this.#earliest(lane, policy.partition.rate),
      );
      if (full || task === undefined || start > now + horizonUs) {
        skipped += 1;
        continue;
      }
      skipped = 0;
      lane.waiting.shift();
      queue.next = this.#charge(queue, start, policy.rate);
      lane.next = this.#charge(lane, start, policy.partition.rate);
      queue.running += 1;
      lane.running += 1;
      grants.push(this.#grant(task, start, now));
      const entry = { at: now, starts: [start], tasks: [task.id], fences: [task.fence] };
      if (this.#defect === "ledger entry missing on recovery" && task.attempt > 1) continue;
      if (policy.rate !== null) this.ledger.push({ queue: queueName, partition: null, ...entry });
      if (policy.partition.rate !== null) this.ledger.push({ queue: queueName, partition, ...entry });
      if (this.#defect === "token charged twice" && this.#random() < 0.05 && policy.rate !== null)
        this.ledger.push({ queue: queueName, partition: null, ...entry, starts: [start + 1] });
    }
    return grants;
  }

  #grant(task: ModelTask, start: number, now: number): ModelGrant {
    const policy = this.#policies.queues[task.queue] as Policies["queues"][string];
    if (this.#defect !== "fence not raised" || task.fence === 0) task.fence += 1;
    task.attempt += 1;
    task.state = "running";
    task.startedAt = start;
    task.leaseUntil = now + this.#policies.leaseMs * 1000 * (this.#defect === "lease ended early" ? 0.1 : 1);
    const limited = policy.rate !== null || policy.partition.rate !== null;
    return { task, fence: task.fence, attempt: task.attempt, start, limited };
  }

  #interval(rate: RatePolicy): number {
    const limit = this.#defect === "window off by one" ? rate.limit + 1 : rate.limit;
    const guard = this.#defect === "window off by one" ? 0 : rate.guardUs;
    return Math.ceil((rate.periodUs + guard) / limit);
  }

  #earliest(owner: { next: number }, rate: RatePolicy | null): number {
    if (rate === null) return 0;
    const burst = this.#defect === "burst beyond its bound" && rate.burst > 1 ? rate.burst + 4 : rate.burst;
    return owner.next - (burst - 1) * this.#interval(rate);
  }

  #charge(owner: { next: number }, start: number, rate: RatePolicy | null): number {
    return rate === null ? 0 : Math.max(owner.next, start) + this.#interval(rate);
  }

  renew(held: readonly { task: ModelTask; fence: number }[], now: number): void {
    if (this.#defect === "lease ended early") return;
    for (const { task, fence } of held)
      if (task.state === "running" && task.fence === fence)
        task.leaseUntil = now + this.#policies.leaseMs * 1000;
  }

  giveBack(task: ModelTask, fence: number, now: number): void {
    if (!this.#holds(task, fence)) return;
    if (this.#defect === "success without a handler")
      this.#finish(task, { state: "succeeded", value: null, now });
    else {
      task.attempt -= 1;
      task.state = "waiting";
      this.#free(task);
      this.#wait(task);
    }
  }

  complete(task: ModelTask, fence: number, end: { ok: boolean; value: string | null; now: number }): boolean {
    const terminal = task.finishedAt !== null;
    if (this.#defect === "fence removed" && terminal && end.ok) {
      task.result = end.value;
      return true;
    }
    const lax = this.#defect === "fence removed" || this.#defect === "completion without a lease";
    if (lax ? terminal || task.state !== "running" : !this.#holds(task, fence)) return false;
    const max = (this.#policies.queues[task.queue] as Policies["queues"][string]).maxAttempts;
    if (end.ok) this.#finish(task, { state: "succeeded", value: end.value, now: end.now });
    else if (task.attempt >= max) this.#finish(task, { state: "dead", value: null, now: end.now });
    else {
      task.state = "scheduled";
      task.dueAt = end.now + 100_000;
      this.#free(task);
    }
    return true;
  }

  recordStep(
    task: ModelTask,
    fence: number,
    step: { name: string; value: string; now: number },
  ): string | null {
    const known = task.steps.get(step.name);
    const replace = this.#defect === "step output replaced by a zombie" && known?.value !== step.value;
    const lax = this.#defect === "step recorded without a lease";
    if (!this.#holds(task, fence) && !replace && !lax) return null;
    if (known !== undefined && !replace) return known.value;
    task.steps.set(step.name, { value: step.value, fence, at: step.now });
    return step.value;
  }

  sweep(now: number): void {
    if (this.#defect === "recovery never") return;
    for (const task of this.live) {
      if (task.state !== "running" || task.leaseUntil >= now) continue;
      const policy = this.#policies.queues[task.queue] as Policies["queues"][string];
      if (this.#defect === "token refunded on recovery" && policy.rate !== null)
        (this.#queues.get(task.queue) as Queue).next -= 2 * this.#interval(policy.rate);
      if (task.attempt >= policy.maxAttempts) this.#finish(task, { state: "dead", value: null, now });
      else {
        task.state = "waiting";
        if (this.#defect !== "lane stuck after recovery") this.#free(task);
        this.#wait(task);
      }
    }
  }

  /** A restart loses nothing that was acknowledged, unless told to. */
  crash(now: number): void {
    if (this.#defect !== "acknowledged task lost in a restart") return;
    for (const task of this.live) {
      if (task.enqueuedAt < now - 300_000 || task.state !== "waiting") continue;
      const waiting = this.#lane(task).waiting;
      waiting.splice(waiting.indexOf(task), 1);
      this.tasks.delete(task.id);
      this.live.delete(task);
    }
  }

  lanes(): { queue: string; partition: string; running: number; waiting: number }[] {
    return [...this.#queues].flatMap(([queue, { lanes }]) =>
      [...lanes].map(([partition, lane]) => ({
        queue,
        partition,
        running: lane.running + (this.#defect === "slot counter leaked" && partition === "b" ? 1 : 0),
        waiting: lane.waiting.length,
      })),
    );
  }

  #holds(task: ModelTask, fence: number): boolean {
    return task.state === "running" && task.fence === fence;
  }

  #promote(queue: string, now: number): void {
    if (this.#defect === "retry timer lost") return;
    for (const task of this.live) {
      if (task.queue !== queue || task.state !== "scheduled" || task.dueAt > now) continue;
      task.state = "waiting";
      this.#wait(task);
    }
  }

  #lane(task: ModelTask): Lane {
    const { lanes } = this.#queues.get(task.queue) as Queue;
    let lane = lanes.get(task.partition);
    if (lane === undefined) {
      lane = { waiting: [], running: 0, next: 0 };
      lanes.set(task.partition, lane);
    }
    return lane;
  }

  #wait(task: ModelTask): void {
    const { waiting } = this.#lane(task);
    const index = waiting.findIndex((other) => other.order > task.order);
    waiting.splice(index === -1 ? waiting.length : index, 0, task);
  }

  #free(task: ModelTask): void {
    (this.#queues.get(task.queue) as Queue).running -= 1;
    this.#lane(task).running -= 1;
  }

  #finish(task: ModelTask, end: { state: string; value: string | null; now: number }): void {
    if (task.state === "running") this.#free(task);
    task.state = end.state;
    task.result = end.value;
    task.finishedAt = end.now;
    this.live.delete(task);
    if (this.#defect === "counts drift" && this.#random() < 0.02) this.drift += 1;
  }
}
