import type { TaskState } from "../task/state.ts";
import { plainArray, textArray, uniform } from "./array-literal.ts";
import type { Database, Row, Statement, Value } from "./database.ts";
import { translateError } from "./database-errors.ts";
import { digest, quoteName } from "./schema.ts";
import type {
  ExchangeAnswer,
  ExchangeRequest,
  Grant,
  NewTask,
  QueueRecord,
  SendStatement,
  Settlement,
  StoredTask,
  StoreMessage,
  TaskStore,
  WorkerRuns,
} from "./task-store.ts";

/** Parameter types of each routine, which are also its signature here. */
const routineParameters = {
  clock_read: "",
  enqueue: "int uuid[] text[] text[] text[] int[] bigint[] bigint[]",
  enqueue_or_stage: "int uuid[] text[] text[] text[] int[] bigint[] bigint[] boolean",
  enqueue_unique: "int uuid[] text[] text[] text[] int[] bigint[] bigint[] text[] text[] bigint[] boolean",
  exchange:
    "int uuid uuid[] bigint[] int[] text[] bigint[] bigint[] int int int bigint bigint bigint boolean",
  prune: "uuid int bigint",
  prune_lanes: "int",
  queue_declare:
    "text text bigint bigint bigint bigint bigint bigint int int bigint bigint bigint bigint int bigint",
  queue_pause: "int boolean",
  queue_stats: "int",
  step_list: "uuid",
  step_record: "uuid bigint text text",
  task_cancel: "uuid",
  task_progress: "uuid bigint text",
  task_read: "uuid",
  task_retry: "uuid",
  task_watch: "uuid",
  worker_beat: "uuid",
  worker_join: "uuid text bigint",
  worker_leave: "uuid",
  worker_rescue: "boolean",
} as const;

type Routine = keyof typeof routineParameters;

/** Ledger rows are kept at least this long, and never less than twice the longest period. */
const ledgerKeepUs = 86_400_000_000;
const pruneBatch = 1000;
const firstId = "00000000-0000-0000-0000-000000000000";

/** Opens the task store kept in `schema` of a database whose schema is up to date. */
export function sqlTaskStore(database: Database, schema: string): TaskStore {
  return new SqlTaskStore(database, schema);
}

class SqlTaskStore implements TaskStore {
  readonly sole: boolean;
  readonly #database: Database;
  readonly #statements: Readonly<Record<Routine, Statement>>;
  readonly #channel: string;

  constructor(database: Database, schema: string) {
    this.#database = database;
    this.sole = database.sole;
    this.#channel = `sluice.${schema}`;
    this.#statements = statementsOf(schema);
  }

  async clockRead(): Promise<number> {
    return Number(await this.#callOne("clock_read", []));
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  #call(routine: Routine, values: readonly Value[], deadlineMs?: number): Promise<Row[]> {
    const options = deadlineMs === undefined ? undefined : { deadlineMs };
    return this.#database.query(this.#statements[routine], values, options);
  }

  async #callOne(routine: Routine, values: readonly Value[]): Promise<unknown> {
    const [row] = await this.#call(routine, values);
    return row?.[routine];
  }

  async exchange(request: ExchangeRequest): Promise<ExchangeAnswer> {
    const { queueId, workerId, settlements, want, chain, most, horizonUs, leadUs, patienceUs, suspect } =
      request;
    const values = [
      queueId,
      workerId,
      ...settlementArrays(settlements),
      want,
      chain,
      most,
      horizonUs,
      leadUs,
      patienceUs,
      suspect,
    ];
    return readExchange(await this.#call("exchange", values, request.deadlineMs));
  }

  listen(onMessage: (message: StoreMessage) => void): Promise<() => Promise<void>> {
    const read = (payload: string): void => {
      const separator = payload.indexOf(":");
      const [kind, subject] = [payload.slice(0, separator), payload.slice(separator + 1)];
      if (kind === "wake") onMessage({ kind, queueId: Number(subject) });
      else if (kind === "done" || kind === "cancel") onMessage({ kind, taskId: subject });
    };
    return this.#database.listen(this.#channel, read, () => onMessage({ kind: "lost" }));
  }

  async prune(after: string | undefined): Promise<string | undefined> {
    const [row] = await this.#call("prune", [after ?? firstId, pruneBatch, ledgerKeepUs]);
    const next = row?.["next_id"];
    if (typeof next === "string") return next;
    await this.#call("prune_lanes", [pruneBatch]);
    return undefined;
  }

  async queueDeclare(queue: QueueRecord): Promise<number> {
    const { limit, lanePace } = queue;
    const id = await this.#callOne("queue_declare", [
      queue.name,
      queue.definition,
      limit?.amount ?? null,
      limit?.periodUs ?? null,
      limit?.guardUs ?? null,
      limit?.burst ?? null,
      limit?.numerator ?? null,
      limit?.denominator ?? null,
      queue.concurrency ?? null,
      queue.laneConcurrency ?? null,
      lanePace?.periodUs ?? null,
      lanePace?.numerator ?? null,
      lanePace?.denominator ?? null,
      lanePace?.burst ?? 1,
      queue.lossesMax,
      queue.retentionUs,
    ]);
    return Number(id);
  }

  async queuePause(queueId: number, paused: boolean): Promise<void> {
    await this.#call("queue_pause", [queueId, paused]);
  }

  async queueStats(queueId: number): Promise<ReadonlyMap<string, number>> {
    const rows = await this.#call("queue_stats", [queueId]);
    return new Map(rows.map((row) => [String(row["state"]), Number(row["n"])]));
  }

  async stepList(taskId: string): Promise<ReadonlyMap<string, string | null>> {
    const rows = await this.#call("step_list", [taskId]);
    return new Map(rows.map((row) => [String(row["name"]), row["result"] as string | null]));
  }

  async stepRecord(taskId: string, fence: number, name: string, result: string | null) {
    const [row] = await this.#call("step_record", [taskId, fence, name, result]);
    return row?.["held"] === true ? { result: row["result"] as string | null } : undefined;
  }

  async taskCancel(taskId: string): Promise<TaskState | undefined> {
    return ((await this.#callOne("task_cancel", [taskId])) ?? undefined) as TaskState | undefined;
  }

  /** Sends a routine on a connection of the caller's. */
  async #sendOn(send: SendStatement, routine: Routine, values: readonly Value[]): Promise<readonly Row[]> {
    try {
      return (await send(this.#statements[routine].text, values)) as readonly Row[];
    } catch (error) {
      throw translateError(error, { target: "the caller's transaction", doing: routine });
    }
  }

  async taskEnqueue(
    queueId: number,
    tasks: readonly NewTask[],
    send?: SendStatement,
  ): Promise<ReadonlyMap<number, string>> {
    const columns = [queueId, ...taskArrays(tasks)];
    const run = (routine: Routine, values: readonly Value[]): Promise<readonly Row[]> =>
      send === undefined ? this.#call(routine, values) : this.#sendOn(send, routine, values);
    const staged = send !== undefined;
    if (tasks.every((task) => task.key === null)) {
      if (staged) await run("enqueue_or_stage", [...columns, true]);
      else await run("enqueue", columns);
      return noDuplicates;
    }
    const keys = textArray(tasks.map((task) => task.key?.text ?? null));
    const digests = textArray(tasks.map((task) => task.key?.digest ?? null));
    const keeps = plainArray(tasks.map((task) => task.key?.keepUs ?? null));
    const rows = await run("enqueue_unique", [...columns, keys, digests, keeps, staged]);
    return new Map(rows.map((row) => [Number(row["place"]) - 1, String(row["id"])]));
  }

  async taskProgress(taskId: string, fence: number, progress: string): Promise<boolean> {
    return (await this.#callOne("task_progress", [taskId, fence, progress])) === true;
  }

  async taskRead(taskId: string): Promise<StoredTask | undefined> {
    const [row] = await this.#call("task_read", [taskId]);
    return row === undefined ? undefined : readTask(row);
  }

  async taskRetry(taskId: string): Promise<TaskState | undefined> {
    return ((await this.#callOne("task_retry", [taskId])) ?? undefined) as TaskState | undefined;
  }

  async taskWatch(taskId: string): Promise<boolean | undefined> {
    return ((await this.#callOne("task_watch", [taskId])) ?? undefined) as boolean | undefined;
  }

  async workerBeat(workerId: string, deadlineMs: number): Promise<WorkerRuns | undefined> {
    const [alive, ...rows] = await this.#call("worker_beat", [workerId], deadlineMs);
    if (alive === undefined) return undefined;
    return {
      runs: rows.map((row) => ({
        taskId: String(row["id"]),
        fence: Number(row["fence"]),
        lane: Number(row["lane"]),
        queueId: Number(row["queue"]),
      })),
      cancelling: rows.filter((row) => row["cancelling"] === true).map((row) => String(row["id"])),
    };
  }

  async workerJoin(workerId: string, name: string, leaseUs: number): Promise<void> {
    await this.#call("worker_join", [workerId, name, leaseUs]);
  }

  async workerLeave(workerId: string): Promise<void> {
    await this.#call("worker_leave", [workerId]);
  }

  async workerRescue(all: boolean): Promise<number> {
    return Number(await this.#callOne("worker_rescue", [all]));
  }
}

const noDuplicates: ReadonlyMap<number, string> = new Map();

function statementsOf(schema: string): Readonly<Record<Routine, Statement>> {
  const suffix = digest(schema);
  const entries = Object.entries(routineParameters).map(([routine, types]) => {
    const parameters = types
      .split(" ")
      .filter((type) => type !== "")
      .map((type, i) => `$${i + 1}::${type}`);
    const text = `SELECT * FROM ${quoteName(schema)}.${routine}(${parameters.join(", ")})`;
    return [routine, { name: `sluice_${routine}_${suffix}`, text }];
  });
  return Object.fromEntries(entries) as Record<Routine, Statement>;
}

/** What ended, as the arrays of `exchange`; columns that hold nothing of interest are null. */
function settlementArrays(settlements: readonly Settlement[]): Value[] {
  if (settlements.length === 0) return [null, null, null, null, null, null];
  const ids: string[] = [];
  const fences: number[] = [];
  const lanes = new Set<number>();
  let plain = true;
  let silent = true;
  for (const settlement of settlements) {
    ids.push(settlement.taskId);
    fences.push(settlement.fence);
    lanes.add(settlement.lane);
    if (settlement.kind !== 0) plain = false;
    if (settlement.body !== null) silent = false;
  }
  return [
    plainArray(ids),
    plainArray(fences),
    plain ? null : plainArray(settlements.map((settlement) => settlement.kind)),
    silent ? null : textArray(settlements.map((settlement) => settlement.body)),
    plain ? null : plainArray(settlements.map((settlement) => settlement.delayUs)),
    plainArray([...lanes]),
  ];
}

function readExchange(rows: readonly Row[]): ExchangeAnswer {
  const grants: Grant[] = [];
  const stale: string[] = [];
  let workerGone = false;
  let header: Row | undefined;
  for (const row of rows) {
    const kind = row["kind"];
    if (kind === 1 || kind === 4) grants.push(readGrant(row, kind === 4));
    else if (kind === 2) stale.push(row["id"] as string);
    else if (kind === 3) workerGone = true;
    else header = row;
  }
  return {
    grants,
    stale,
    workerGone,
    nowUs: header!["start_us"] as number,
    patienceUs: (header!["attempt"] ?? 0) as number,
    laneUs: (header!["fence"] ?? undefined) as number | undefined,
    timerUs: (header!["lane"] ?? undefined) as number | undefined,
    suspects: (header!["failures"] ?? 0) as number,
  };
}

function readGrant(row: Row, suspect: boolean): Grant {
  return {
    taskId: row["id"] as string,
    fence: row["fence"] as number,
    attempt: row["attempt"] as number,
    failures: row["failures"] as number,
    maxAttempts: row["max_attempts"] as number,
    startUs: row["start_us"] as number,
    lane: row["lane"] as number,
    partition: row["partition"] as string,
    name: row["name"] as string,
    input: row["input"] as string | null,
    suspect,
  };
}

/** New tasks as the arrays of `enqueue`. */
function taskArrays(tasks: readonly NewTask[]): Value[] {
  const timed = tasks.some((task) => task.delayUs !== null || task.runAtUs !== null);
  return [
    plainArray(tasks.map((task) => task.id)),
    textArray(uniform(tasks.map((task) => task.partition))),
    textArray(uniform(tasks.map((task) => task.name))),
    textArray(tasks.map((task) => task.input)),
    plainArray(uniform(tasks.map((task) => task.maxAttempts))),
    timed ? plainArray(tasks.map((task) => task.delayUs)) : null,
    timed ? plainArray(tasks.map((task) => task.runAtUs)) : null,
  ];
}

function readTask(row: Row): StoredTask {
  const maybe = (name: string): number | undefined => (row[name] ?? undefined) as number | undefined;
  return {
    id: row["id"] as string,
    queue: row["queue"] as string,
    partition: (row["partition"] ?? "") as string,
    name: row["name"] as string,
    state: row["state"] as TaskState,
    attempt: row["attempt"] as number,
    failures: row["failures"] as number,
    losses: row["losses"] as number,
    maxAttempts: row["max_attempts"] as number,
    fence: maybe("fence"),
    input: row["input"] as string | null,
    result: row["result"] as string | null,
    error: row["error"] as string | null,
    progress: row["progress"] as string | null,
    cancelling: row["cancelling"] as boolean,
    enqueuedUs: row["enqueued_us"] as number,
    startedUs: maybe("started_us"),
    finishedUs: maybe("finished_us"),
    dueUs: maybe("due_us"),
  };
}
