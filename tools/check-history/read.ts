/**
 * Reads a directory of logs into a {@link History}. A line that cannot be understood is an error, not something to
 * skip: a checker that drops what it does not know proves nothing. The one exception is the last line of a log whose
 * writer was killed in the middle of it (no newline at the end of the file).
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { History, Outcome, Policies, Process, Run } from "./history.ts";

/** A line as it was parsed, and where it stands: "effects-w1.jsonl:17". */
export interface Line {
  readonly ref: string;
  readonly value: Readonly<Record<string, unknown>>;
}

/** The raw lines of a run, by log. */
export interface RawLogs {
  readonly policies: Policies;
  readonly client: readonly Line[];
  readonly effects: readonly Line[];
  readonly faults: readonly Line[];
  readonly export: readonly Line[];
}

/** Thrown for logs that cannot be read; the run is then neither clean nor dirty. */
export class MalformedLog extends Error {}

/** Reads all logs of a directory. Throws {@link MalformedLog}. */
export function readLogs(directory: string): RawLogs {
  const names = readdirSync(directory).sort();
  const linesOf = (prefix: string): Line[] =>
    names
      .filter((name) => name.startsWith(prefix) && name.endsWith(".jsonl"))
      .flatMap((name) => readLines(directory, name));
  if (!names.includes("policies.json")) throw new MalformedLog(`${directory}: no policies.json`);
  return {
    policies: JSON.parse(readFileSync(join(directory, "policies.json"), "utf8")) as Policies,
    client: linesOf("client"),
    effects: linesOf("effects"),
    faults: linesOf("faults"),
    export: linesOf("export"),
  };
}

function readLines(directory: string, name: string): Line[] {
  const texts = readFileSync(join(directory, name), "utf8").split("\n");
  const lines: Line[] = [];
  for (const [index, text] of texts.entries()) {
    if (text === "") continue;
    const ref = `${name}:${index + 1}`;
    try {
      lines.push({ ref, value: JSON.parse(text) as Record<string, unknown> });
    } catch (error) {
      if (index === texts.length - 1) continue;
      throw new MalformedLog(`${ref}: ${(error as Error).message}`);
    }
  }
  return lines;
}

/** Fields of one line, read with their type; anything else is a malformed log. */
class Fields {
  readonly line: Line;
  constructor(line: Line) {
    this.line = line;
  }
  text(name: string): string {
    const value = this.line.value[name];
    return typeof value === "string" ? value : this.#reject(name, "a string");
  }
  textOrNull(name: string): string | null {
    return this.line.value[name] == null ? null : this.text(name);
  }
  number(name: string): number {
    const value = this.line.value[name];
    return typeof value === "number" && Number.isFinite(value) ? value : this.#reject(name, "a number");
  }
  numberOrNull(name: string): number | null {
    return this.line.value[name] == null ? null : this.number(name);
  }
  flag(name: string): boolean {
    return this.line.value[name] === true;
  }
  list(name: string): readonly unknown[] {
    const value = this.line.value[name];
    return Array.isArray(value) ? value : this.#reject(name, "an array");
  }
  oneOf<T extends string>(name: string, choices: readonly T[]): T {
    const value = this.text(name) as T;
    return choices.includes(value) ? value : this.#reject(name, choices.join(" | "));
  }
  unknownKind(kind: string): never {
    throw new MalformedLog(`${this.line.ref}: unknown kind "${kind}"`);
  }
  #reject(name: string, expected: string): never {
    throw new MalformedLog(
      `${this.line.ref}: "${name}" is not ${expected}: ${JSON.stringify(this.line.value[name])}`,
    );
  }
}

/** Builds the history. Throws {@link MalformedLog} if a line does not have the form that `README.md` gives it. */
export function buildHistory(logs: RawLogs): History {
  const history: History = {
    policies: logs.policies,
    enqueues: [],
    commands: [],
    observations: [],
    children: new Map(),
    runs: [],
    steps: [],
    notes: [],
    processes: new Map(),
    faults: [],
    grants: [],
    tasks: [],
    finalSteps: [],
    finalRuns: [],
    lanes: [],
    timers: [],
    counts: [],
    ledgerFrom: 0,
    wallOffset: 0,
    wallSpread: 0,
    until: 0,
  };
  addClient(history, logs.client);
  addEffects(history, logs.effects);
  addFaults(history, logs.faults);
  for (const line of logs.export) addExport(history, new Fields(line));
  return history;
}

interface OpenCall {
  readonly fields: Fields;
  readonly answer: Fields | undefined;
}

function addClient(history: History, lines: readonly Line[]): void {
  const calls = new Map<string, { fields: Fields; answer: Fields | undefined }>();
  for (const line of lines) {
    const fields = new Fields(line);
    history.until = Math.max(history.until, fields.number("mono"));
    const op = fields.text("op");
    if (op === "get") addObservation(history, fields);
    else if (op === "enqueue" || op === "cancel" || op === "retry") {
      const id = fields.text("id");
      if (fields.oneOf("phase", ["invoke", "return"]) === "invoke")
        calls.set(id, { fields, answer: undefined });
      else {
        const call = calls.get(id);
        if (call === undefined) throw new MalformedLog(`${line.ref}: return of ${id} without its invoke`);
        call.answer = fields;
      }
    } else if (op !== "note") fields.unknownKind(op);
  }
  for (const call of calls.values()) {
    if (call.fields.text("op") === "enqueue") addEnqueue(history, call);
    else addCommand(history, call);
  }
}

function addObservation(history: History, fields: Fields): void {
  history.observations.push({
    observer: fields.text("observer"),
    task: fields.text("task"),
    invoked: fields.number("invoked"),
    returned: fields.number("mono"),
    state: fields.text("state"),
    fence: fields.numberOrNull("fence"),
    value: fields.textOrNull("value"),
    ref: fields.line.ref,
  });
}

const outcomes: readonly Outcome[] = ["ok", "fail", "unknown"];

function addEnqueue(history: History, call: OpenCall): void {
  const { fields, answer } = call;
  const outcome = answer?.oneOf("outcome", outcomes) ?? "unknown";
  const tasks = outcome === "ok" ? answer?.list("tasks") : undefined;
  const duplicates =
    outcome === "ok" ? (answer?.line.value["duplicates"] as boolean[] | undefined) : undefined;
  history.enqueues.push({
    id: fields.text("id"),
    invoked: fields.number("mono"),
    returned: answer?.number("mono") ?? Number.POSITIVE_INFINITY,
    outcome,
    ref: fields.line.ref,
    items: fields.list("items").map((value, index) => {
      const item = new Fields({ ref: fields.line.ref, value: value as Record<string, unknown> });
      return {
        item: item.text("item"),
        queue: item.text("queue"),
        partition: item.textOrNull("partition") ?? "",
        key: item.textOrNull("key"),
        delayMs: item.numberOrNull("delayMs") ?? 0,
        task: (tasks?.[index] as string | undefined) ?? null,
        duplicate: duplicates?.[index] === true,
      };
    }),
  });
}

function addCommand(history: History, call: OpenCall): void {
  history.commands.push({
    op: call.fields.oneOf("op", ["cancel", "retry"]),
    task: call.fields.text("task"),
    invoked: call.fields.number("mono"),
    returned: call.answer?.number("mono") ?? Number.POSITIVE_INFINITY,
    outcome: call.answer?.oneOf("outcome", outcomes) ?? "unknown",
    ref: call.fields.line.ref,
  });
}

function processOf(history: History, name: string, mono: number): Process {
  let process = history.processes.get(name);
  if (process === undefined) {
    process = {
      name,
      born: mono,
      lastSeen: mono,
      diedFrom: Number.POSITIVE_INFINITY,
      diedBy: Number.POSITIVE_INFINITY,
      stops: [],
      stalls: [],
    };
    history.processes.set(name, process);
  }
  process.born = Math.min(process.born, mono);
  process.lastSeen = Math.max(process.lastSeen, mono);
  return process;
}

function addEffects(history: History, lines: readonly Line[]): void {
  const open = new Map<string, Run>();
  const offsets: number[] = [];
  for (const line of lines) {
    const fields = new Fields(line);
    const mono = fields.number("mono");
    const process = processOf(history, fields.text("process"), mono);
    history.until = Math.max(history.until, mono);
    const kind = fields.text("kind");
    if (kind === "clock") offsets.push(fields.number("wall") - mono);
    else if (kind === "stall") process.stalls.push({ from: fields.number("from"), to: mono });
    else if (kind === "child") addChild(history, fields);
    else if (kind === "start") addStart(history, fields, open);
    else if (kind === "end") addEnd(fields, open);
    else if (kind === "body" || kind === "step") {
      history.steps.push({
        kind,
        task: fields.text("task"),
        fence: fields.number("fence"),
        step: fields.text("step"),
        mono,
        value: fields.textOrNull("value"),
        ref: line.ref,
      });
    } else if (kind === "late" || kind === "stale" || kind === "lost") {
      history.notes.push({
        kind,
        task: fields.text("task"),
        fence: fields.number("fence"),
        mono,
        ref: line.ref,
      });
    } else if (kind !== "alive" && kind !== "bye") fields.unknownKind(kind);
  }
  offsets.sort((a, b) => a - b);
  history.wallOffset = offsets[offsets.length >> 1] ?? 0;
  history.wallSpread = (offsets.at(-1) ?? 0) - (offsets[0] ?? 0);
}

/** A handler tells before it enqueues and again when it was answered; a later attempt may tell both once more. */
function addChild(history: History, fields: Fields): void {
  const item = fields.text("item");
  const task = fields.textOrNull("task") ?? history.children.get(item)?.task ?? null;
  history.children.set(item, { task, ref: fields.line.ref });
}

function addStart(history: History, fields: Fields, open: Map<string, Run>): void {
  const run: Run = {
    task: fields.text("task"),
    fence: fields.number("fence"),
    attempt: fields.number("attempt"),
    queue: fields.text("queue"),
    partition: fields.textOrNull("partition") ?? "",
    process: fields.text("process"),
    start: fields.number("mono"),
    startAt: fields.numberOrNull("startAt"),
    ref: fields.line.ref,
    end: null,
    outcome: null,
    value: null,
    endRef: null,
  };
  history.runs.push(run);
  open.set(`${run.process} ${run.task} ${run.fence}`, run);
}

function addEnd(fields: Fields, open: Map<string, Run>): void {
  const run = open.get(`${fields.text("process")} ${fields.text("task")} ${fields.number("fence")}`);
  if (run === undefined) throw new MalformedLog(`${fields.line.ref}: end of a run that has no start`);
  run.end = fields.number("mono");
  run.outcome = fields.oneOf<"ok" | "error" | "aborted">("outcome", ["ok", "error", "aborted"]);
  run.value = fields.textOrNull("value");
  run.endRef = fields.line.ref;
}

function addFaults(history: History, lines: readonly Line[]): void {
  for (const line of lines) {
    const fields = new Fields(line);
    const to = fields.number("mono");
    history.until = Math.max(history.until, to);
    const what = fields.text("what");
    if (what === "note") continue;
    if (what !== "kill" && what !== "stop" && what !== "restart" && what !== "exit" && what !== "drain")
      fields.unknownKind(what);
    const who = fields.text("who");
    const from = fields.number("from");
    history.faults.push({ what: what as "kill", who, from, to, ref: line.ref });
    const process = history.processes.get(who);
    if (process === undefined) continue;
    if (what === "stop") process.stops.push({ from, to });
    if (what === "kill" || what === "exit" || what === "drain") {
      process.diedFrom = Math.min(process.diedFrom, from);
      process.diedBy = Math.min(process.diedBy, to);
    }
  }
}

function addExport(history: History, fields: Fields): void {
  const ref = fields.line.ref;
  const table = fields.text("table");
  if (table === "tasks") addFinalTask(history, fields);
  else if (table === "ledger") addLedger(history, fields);
  else if (table === "steps") {
    history.finalSteps.push({
      task: fields.text("task"),
      step: fields.text("step"),
      fence: fields.numberOrNull("fence"),
      output: fields.textOrNull("output"),
      at: fields.numberOrNull("at"),
      ref,
    });
  } else if (table === "runs")
    history.finalRuns.push({ task: fields.text("task"), fence: fields.number("fence"), ref });
  else if (table === "lanes") {
    history.lanes.push({
      queue: fields.text("queue"),
      partition: fields.textOrNull("partition") ?? "",
      running: fields.numberOrNull("running"),
      waiting: fields.numberOrNull("waiting"),
      ref,
    });
  } else if (table === "timers") history.timers.push({ task: fields.text("task"), ref });
  else if (table === "counts") {
    history.counts.push({
      queue: fields.text("queue"),
      counts: fields.line.value["counts"] as Record<string, number>,
      deleted: fields.numberOrNull("deleted") ?? 0,
      ref,
    });
  } else if (table === "meta") history.ledgerFrom = fields.numberOrNull("ledgerFrom") ?? 0;
  else if (table !== "workers") fields.unknownKind(table);
}

function addFinalTask(history: History, fields: Fields): void {
  history.tasks.push({
    id: fields.text("id"),
    item: fields.textOrNull("item"),
    queue: fields.text("queue"),
    partition: fields.textOrNull("partition") ?? "",
    state: fields.text("state"),
    attempt: fields.number("attempt"),
    fence: fields.numberOrNull("fence"),
    result: fields.textOrNull("result"),
    enqueuedAt: fields.numberOrNull("enqueuedAt"),
    startedAt: fields.numberOrNull("startedAt"),
    finishedAt: fields.numberOrNull("finishedAt"),
    ref: fields.line.ref,
  });
}

function addLedger(history: History, fields: Fields): void {
  const starts = fields.list("starts") as readonly number[];
  const tasks = fields.list("tasks") as readonly string[];
  const fences = fields.list("fences") as readonly number[];
  if (starts.length !== tasks.length || starts.length !== fences.length)
    throw new MalformedLog(`${fields.line.ref}: starts, tasks and fences differ in length`);
  const partition = fields.textOrNull("partition");
  for (const [index, start] of starts.entries()) {
    history.grants.push({
      scope: partition === null ? "queue" : "partition",
      queue: fields.text("queue"),
      partition: partition ?? "",
      task: tasks[index] as string,
      fence: fences[index] as number,
      start,
      at: fields.number("at"),
      ref: fields.line.ref,
    });
  }
}
