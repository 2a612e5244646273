/**
 * A small honest queue under faults, in virtual time: three worker processes, clients, a fault loop, and the logs the
 * checker reads. One seed gives one history. With a defect named, it breaks that one promise and keeps the others.
 */
import type { Policies } from "../history.ts";
import type { Line, RawLogs } from "../read.ts";
import { type Defect, type ModelGrant, ModelStore, type ModelTask, type NewTask } from "./model-store.ts";
import { seededRandom, VirtualTime } from "./virtual-time.ts";

const wallOffset = 1_760_000_000_000_000;
const faultsEnd = 18_000_000;
const hardEnd = 90_000_000;

export const simulatedPolicies: Policies = {
  leaseMs: 2000,
  sweepMs: 500,
  reconnectMs: 300,
  slackMs: 1000,
  queues: {
    paced: {
      rate: { limit: 20, periodUs: 1_000_000, burst: 1, guardUs: 50_000 },
      concurrency: null,
      partition: { rate: null, concurrency: 1 },
      maxAttempts: 20,
      backoffMaxMs: 100,
    },
    bursty: {
      rate: { limit: 50, periodUs: 1_000_000, burst: 5, guardUs: 20_000 },
      concurrency: 6,
      partition: { rate: null, concurrency: null },
      maxAttempts: 20,
      backoffMaxMs: 100,
    },
    perkey: {
      rate: null,
      concurrency: null,
      partition: { rate: { limit: 5, periodUs: 1_000_000, burst: 1, guardUs: 50_000 }, concurrency: null },
      maxAttempts: 20,
      backoffMaxMs: 100,
    },
    free: {
      rate: null,
      concurrency: null,
      partition: { rate: null, concurrency: null },
      maxAttempts: 20,
      backoffMaxMs: 100,
    },
  },
};

/** A process: its callbacks wait while it is stopped and vanish when it is killed. */
interface Actor {
  readonly name: string;
  alive: boolean;
  stoppedUntil: number;
  /** How far off this process's own idea of the store's clock is. */
  readonly skew: number;
  readonly held: Map<string, { task: ModelTask; fence: number }>;
}

class Simulation {
  readonly #time = new VirtualTime();
  readonly #random: () => number;
  readonly #store: ModelStore;
  readonly #defect: Defect | null;
  readonly #logs = { client: [] as Line[], effects: [] as Line[], faults: [] as Line[] };
  readonly #workers: Actor[] = [];
  #databaseUpAt = 0;
  #epoch = 0;
  #calls = 0;
  #born = 0;
  readonly #firstSeen: Map<string, { state: string; fence: number }> = new Map();
  #open = 0;
  #observed = 0;
  #recent: ModelTask[] = [];

  constructor(seed: number, defect: Defect | null) {
    this.#random = seededRandom(seed);
    this.#defect = defect;
    this.#store = new ModelStore(simulatedPolicies, defect, this.#random);
  }

  run(): RawLogs {
    for (let index = 0; index < 3; index += 1) this.#spawn(index);
    for (const name of ["c1", "c2"]) this.#enqueueLoop(this.#actor(name));
    this.#observe(this.#actor("o1"));
    this.#sweepLoop();
    this.#faultLoop();
    this.#time.runUntil(
      hardEnd,
      () => this.#time.now > faultsEnd + 3_000_000 && this.#open === 0 && this.#store.live.size === 0,
    );
    return { policies: simulatedPolicies, ...this.#logs, export: this.#export() };
  }

  #actor(name: string): Actor {
    const skew = (this.#random() - 0.5) * 800_000;
    return { name, alive: true, stoppedUntil: 0, skew, held: new Map() };
  }

  #log(log: keyof RawLogs & ("client" | "effects" | "faults"), value: Record<string, unknown>): void {
    const lines = this.#logs[log];
    lines.push({ ref: `${log}.jsonl:${lines.length + 1}`, value });
  }

  #between(low: number, high: number): number {
    return Math.floor(low + this.#random() * (high - low));
  }

  /** Runs `work` in the process at `time`, later if it is stopped then, never if it is dead. */
  #in(actor: Actor, time: number, work: () => void): void {
    this.#time.at(time, () => {
      if (!actor.alive) return;
      if (actor.stoppedUntil > this.#time.now) this.#in(actor, actor.stoppedUntil, work);
      else work();
    });
  }

  /** A call to the store: atomic when it arrives, lost if the database goes down before the answer. */
  #call<T>(
    actor: Actor,
    work: (now: number) => T,
    answer: (result: T | undefined, sent: boolean) => void,
  ): void {
    this.#time.at(this.#time.now + this.#between(200, 1500), () => {
      const up = this.#time.now >= this.#databaseUpAt;
      const result = up ? work(this.#time.now + wallOffset) : undefined;
      const epoch = this.#epoch;
      this.#in(actor, this.#time.now + this.#between(200, 1500), () =>
        answer(epoch === this.#epoch ? result : undefined, up),
      );
    });
  }

  #enqueueLoop(client: Actor): void {
    const items: NewTask[] = [];
    const count = this.#random() < 0.2 ? this.#between(2, 6) : 1;
    const queue = this.#random() < 0.25 ? "paced" : this.#pick(["bursty", "perkey", "free"]);
    const keyed = this.#random() < 0.3;
    for (let index = 0; index < count; index += 1) {
      const item = `i${++this.#calls}`;
      items.push({
        item,
        queue,
        partition: this.#pick(["a", "b", "c"]),
        key: keyed ? `k-${item}` : null,
        delayMs: this.#random() < 0.05 ? this.#between(50, 900) : 0,
        callerTime: Math.floor((this.#time.now + client.skew) / 1000),
      });
    }
    this.#enqueue(client, items);
    if (this.#time.now < faultsEnd)
      this.#in(client, this.#time.now + this.#between(20_000, 70_000), () => this.#enqueueLoop(client));
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.#random() * choices.length)] as T;
  }

  #enqueue(client: Actor, items: readonly NewTask[]): void {
    const id = `${client.name}-${++this.#calls}`;
    this.#open += 1;
    this.#log("client", { op: "enqueue", phase: "invoke", id, mono: this.#time.now, items });
    this.#call(
      client,
      (now) => this.#store.enqueue(items, now),
      (made, sent) => {
        this.#open -= 1;
        const outcome = made !== undefined ? "ok" : sent ? "unknown" : "fail";
        const tasks = made?.map((one) => one.id);
        const duplicates = made?.map((one) => one.duplicate);
        this.#log("client", {
          op: "enqueue",
          phase: "return",
          id,
          mono: this.#time.now,
          outcome,
          tasks,
          duplicates,
        });
        const again = outcome === "unknown" || (outcome === "ok" && this.#random() < 0.1);
        if (again && items[0]?.key !== null)
          this.#in(client, this.#time.now + 400_000, () => this.#enqueue(client, items));
      },
    );
  }

  #observe(observer: Actor): void {
    const task = this.#pick(this.#recent);
    const invoked = this.#time.now;
    if (task !== undefined && this.#time.now >= this.#databaseUpAt) {
      const first = this.#firstSeen.get(task.id) ?? { state: task.state, fence: task.fence };
      this.#firstSeen.set(task.id, first);
      const { state, fence } = this.#defect === "stale reading" && this.#random() < 0.3 ? first : task;
      const value = state === "succeeded" ? task.result : null;
      this.#log("client", {
        op: "get",
        observer: "o1",
        task: task.id,
        invoked,
        mono: invoked + 1,
        state,
        fence,
        value,
      });
    }
    if (this.#observed++ % 20 === 0) this.#recent = [...this.#store.tasks.values()].slice(-60);
    this.#in(observer, this.#time.now + 10_000, () => this.#observe(observer));
  }

  #spawn(slot: number): void {
    const worker = this.#actor(`w${slot}#${++this.#born}`);
    this.#workers[slot] = worker;
    const { now } = this.#time;
    const wall = now + wallOffset + this.#between(-20, 20);
    this.#log("effects", { kind: "clock", process: worker.name, mono: now, wall });
    for (const queue of Object.keys(simulatedPolicies.queues)) this.#claimLoop(worker, queue);
    this.#renewLoop(worker);
  }

  #claimLoop(worker: Actor, queue: string): void {
    const skew = this.#defect === "caller's clock" ? worker.skew : 0;
    const again = (): void => {
      if (this.#defect === "no reconnect" && this.#epoch >= 2) return;
      this.#in(worker, this.#time.now + this.#between(15_000, 30_000), () => this.#claimLoop(worker, queue));
    };
    this.#call(
      worker,
      (now) => this.#store.claim(queue, 10, now + skew),
      (grants) => {
        for (const grant of grants ?? []) {
          worker.held.set(grant.task.id, grant);
          this.#in(worker, grant.start - wallOffset - skew, () => this.#begin(worker, grant));
          if (this.#defect === "grant started twice" && this.#random() < 0.02)
            this.#in(worker, grant.start - wallOffset + 5000, () => this.#begin(worker, grant));
        }
        again();
      },
    );
  }

  #renewLoop(worker: Actor): void {
    const held = [...worker.held.values()];
    this.#call(
      worker,
      (now) => this.#store.renew(held, now),
      () => undefined,
    );
    this.#in(worker, this.#time.now + 500_000, () => this.#renewLoop(worker));
  }

  #begin(worker: Actor, grant: ModelGrant): void {
    const { task, fence, attempt, start, limited } = grant;
    // A grant without a rate is good for half a lease: after that its task may be someone else's.
    const late = this.#time.now + wallOffset - start > (limited ? 20_000 : 1_000_000);
    if (late && !["grant without an end", "caller's clock"].includes(this.#defect ?? "")) {
      this.#log("effects", {
        kind: "late",
        process: worker.name,
        mono: this.#time.now,
        task: task.id,
        fence,
      });
      worker.held.delete(task.id);
      this.#until(worker, (now) => this.#store.giveBack(task, fence, now));
      return;
    }
    const { queue, partition } = task;
    const line = { process: worker.name, mono: this.#time.now, task: task.id, fence };
    this.#log("effects", { kind: "start", ...line, attempt, queue, partition, startAt: start });
    const slow = this.#random() < (attempt > 1 && queue !== "paced" ? 0.5 : 0.04);
    const takes = slow ? this.#between(500_000, 4_000_000) : this.#between(2_000, 80_000);
    if (queue === "free") this.#step(worker, grant, { number: 1, takes });
    else this.#in(worker, this.#time.now + takes, () => this.#end(worker, grant, this.#random() > 0.08));
  }

  #step(worker: Actor, grant: ModelGrant, step: { number: number; takes: number }): void {
    const { task, fence } = grant;
    const name = `s${step.number}`;
    const line = { process: worker.name, task: task.id, fence, step: name };
    const next = (value: string | null): void => {
      if (value === null) {
        this.#end(worker, grant, null);
        return;
      }
      this.#log("effects", { kind: "step", ...line, mono: this.#time.now, value });
      if (step.number === 2) this.#end(worker, grant, this.#random() > 0.15);
      else this.#step(worker, grant, { ...step, number: step.number + 1 });
    };
    this.#until(
      worker,
      () => ({ known: task.steps.get(name)?.value }),
      ({ known }) => {
        if (known !== undefined && this.#defect !== "step body run again") {
          next(known);
          return;
        }
        this.#log("effects", { kind: "body", ...line, mono: this.#time.now });
        const value = JSON.stringify({ made: name, fence });
        this.#in(worker, this.#time.now + step.takes, () =>
          this.#until(
            worker,
            (now) => ({ got: this.#store.recordStep(task, fence, { name, value, now }) }),
            ({ got }) => next(got),
          ),
        );
      },
    );
  }

  #end(worker: Actor, grant: ModelGrant, ok: boolean | null): void {
    const { task, fence } = grant;
    const value = ok ? JSON.stringify({ by: worker.name, fence }) : null;
    const outcome = ok === null ? "aborted" : ok ? "ok" : "error";
    this.#log("effects", {
      kind: "end",
      process: worker.name,
      mono: this.#time.now,
      task: task.id,
      fence,
      outcome,
      value,
    });
    const gone = (): void => {
      if (worker.held.get(task.id)?.fence === fence) worker.held.delete(task.id);
    };
    if (ok === null) gone();
    else this.#until(worker, (now) => this.#store.complete(task, fence, { ok, value, now }), gone);
  }

  /** Calls until an answer comes. */
  #until<T>(worker: Actor, work: (now: number) => T, then: (result: T) => void = () => undefined): void {
    let done: { result: T } | undefined;
    this.#call(
      worker,
      (now) => {
        done = { result: work(now) };
        return done;
      },
      (answer) => {
        if (answer !== undefined) then(answer.result);
        else this.#in(worker, this.#time.now + 30_000, () => this.#until(worker, work, then));
      },
    );
  }

  #sweepLoop(): void {
    const able = this.#workers.some((worker) => worker.alive && worker.stoppedUntil <= this.#time.now);
    if (able && this.#time.now >= this.#databaseUpAt) this.#store.sweep(this.#time.now + wallOffset);
    this.#time.at(this.#time.now + 450_000, () => this.#sweepLoop());
  }

  #faultLoop(): void {
    this.#time.at(this.#time.now + this.#between(700_000, 2_200_000), () => {
      if (this.#time.now > faultsEnd) return;
      const kind = this.#random();
      if (kind < 0.4) this.#kill(this.#between(0, 3));
      else if (kind < 0.75) this.#stop(this.#between(0, 3));
      else this.#restart();
      this.#faultLoop();
    });
  }

  #kill(slot: number): void {
    const worker = this.#workers[slot] as Actor;
    if (!worker.alive) return;
    worker.alive = false;
    const { now } = this.#time;
    this.#log("faults", { what: "kill", who: worker.name, from: now, mono: now + 1 });
    this.#time.at(now + 300_000, () => this.#spawn(slot));
  }

  #stop(slot: number): void {
    const worker = this.#workers[slot] as Actor;
    const { now } = this.#time;
    if (!worker.alive || worker.stoppedUntil > now) return;
    worker.stoppedUntil = now + this.#between(100_000, 5_000_000);
    this.#time.at(worker.stoppedUntil, () =>
      this.#log("faults", { what: "stop", who: worker.name, from: now, mono: this.#time.now }),
    );
  }

  #restart(): void {
    const { now } = this.#time;
    if (now < this.#databaseUpAt) return;
    this.#epoch += 1;
    this.#databaseUpAt = now + this.#between(100_000, 600_000);
    this.#store.crash(now + wallOffset);
    this.#log("faults", { what: "restart", who: "postgres", from: now, mono: this.#databaseUpAt });
    const worker = this.#workers[0] as Actor;
    if (this.#defect === "worker ends when the database goes" && worker.alive) {
      worker.alive = false;
      this.#log("faults", { what: "exit", who: worker.name, from: now, mono: now + 1 });
      this.#time.at(now + 300_000, () => this.#spawn(0));
    }
  }

  #export(): Line[] {
    const rows: Record<string, unknown>[] = [];
    const counts = new Map<string, Record<string, number>>();
    for (const task of this.#store.tasks.values()) {
      const { steps, order: _order, dueAt: _due, leaseUntil: _lease, ...fields } = task;
      rows.push({ table: "tasks", ...fields });
      for (const [step, { value, fence, at }] of steps)
        rows.push({ table: "steps", task: task.id, step, fence, output: value, at });
      const ofQueue = counts.get(task.queue) ?? {};
      ofQueue[task.state] = (ofQueue[task.state] ?? 0) + 1;
      counts.set(task.queue, ofQueue);
      if (this.#defect === "timer left over" && task.item.endsWith("7"))
        rows.push({ table: "timers", task: task.id });
    }
    for (const row of this.#store.ledger) rows.push({ table: "ledger", ...row });
    for (const lane of this.#store.lanes()) rows.push({ table: "lanes", ...lane });
    for (const [queue, ofQueue] of counts) {
      if (queue === "free") ofQueue["succeeded"] = (ofQueue["succeeded"] ?? 0) + this.#store.drift;
      rows.push({ table: "counts", queue, counts: ofQueue, deleted: 0 });
    }
    return rows.map((value, index) => ({ ref: `export.jsonl:${index + 1}`, value }));
  }
}

/** Simulates one run of about 30 virtual seconds. */
export function simulate(seed: number, defect: Defect | null = null): RawLogs {
  return new Simulation(seed, defect).run();
}
