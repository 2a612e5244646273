/**
 * The thread that runs PGlite. PGlite works synchronously, so on the main thread it would starve every timer and
 * socket; here it starves nobody.
 *
 * It takes requests one after the other and speaks PostgreSQL's own protocol with the engine: PGlite's `query` would
 * parse each statement anew and cross into the engine five times; a prepared statement here crosses once.
 *
 * This file imports nothing of ours but plain data and pure functions, so that it runs wherever it lies.
 */
import { parentPort, workerData } from "node:worker_threads";
import type { PGlite, protocol } from "@electric-sql/pglite";
import type { ServerError } from "../database-errors.ts";
import { type TextParser, textParserOf } from "../text-parsers.ts";
import {
  type EngineAnswer,
  type EngineReply,
  type EngineRequest,
  type EngineStart,
  flag,
} from "./protocol.ts";

type Serialize = typeof protocol.serialize;
type EngineMessage = Awaited<ReturnType<PGlite["execProtocolStream"]>>[number];
type Fields = { readonly fields: readonly { readonly name: string; readonly dataTypeID: number }[] };

/** The columns of a prepared statement; empty for one that returns no rows. */
interface Prepared {
  readonly text: string;
  columns: readonly string[] | undefined;
  parsers: readonly TextParser[];
}

/** One PGlite, used as one session. */
class Session {
  readonly #engine: PGlite;
  readonly #serialize: Serialize;
  readonly #prepared = new Map<string, Prepared>();
  // The names the engine knows for sure. Others are parsed on their next use; closing an unknown name does no harm.
  readonly #known = new Set<string>();

  constructor(engine: PGlite, serialize: Serialize) {
    this.#engine = engine;
    this.#serialize = serialize;
  }

  async run(request: EngineRequest & { kind: "statement" }): Promise<EngineAnswer> {
    let prepared = this.#prepared.get(request.name);
    if (prepared === undefined) {
      prepared = { text: request.text as string, columns: undefined, parsers: [] };
      this.#prepared.set(request.name, prepared);
    }
    const { parse, bind, describe, execute, sync, close } = this.#serialize;
    const parts: Uint8Array[] = [];
    if (!this.#known.has(request.name)) {
      prepared.columns = undefined;
      parts.push(
        close({ type: "S", name: request.name }),
        parse({ name: request.name, text: prepared.text }),
      );
    }
    parts.push(bind({ statement: request.name, values: request.values as (string | null)[] }));
    // The columns of a prepared statement cannot change, so they are asked for once.
    if (prepared.columns === undefined) parts.push(describe({ type: "P" }));
    parts.push(execute({}), sync());
    try {
      const answer = readAnswer(await this.#send(joined(parts)), prepared);
      this.#known.add(request.name);
      return answer;
    } catch (error) {
      if (isOutdated(error)) this.#known.delete(request.name);
      throw error;
    }
  }

  async script(sql: string): Promise<EngineAnswer> {
    const messages = await this.#send(this.#serialize.query(sql));
    return readAnswer(messages, { text: sql, columns: undefined, parsers: [] });
  }

  #send(message: Uint8Array): Promise<EngineMessage[]> {
    return this.#engine.execProtocolStream(message, { syncToFs: false, throwOnError: false });
  }
}

/** Whether the engine has lost the statement (26000), or its columns have changed (0A000): it must be parsed anew. */
function isOutdated(error: unknown): boolean {
  const { code } = error as Partial<ServerError>;
  return code === "26000" || code === "0A000";
}

/** Reads the messages of one statement; throws the server's error if there is one among them. */
function readAnswer(messages: readonly EngineMessage[], prepared: Prepared): EngineAnswer {
  const rows: unknown[][] = [];
  let command = "";
  for (const message of messages) {
    switch (message.name) {
      case "error":
        throw serverErrorOf(message as unknown as ServerError);
      case "rowDescription": {
        const { fields } = message as unknown as Fields;
        prepared.columns = fields.map((field) => field.name);
        prepared.parsers = fields.map((field) => textParserOf(field.dataTypeID));
        break;
      }
      case "dataRow":
        rows.push(readRow((message as unknown as { fields: (string | null)[] }).fields, prepared.parsers));
        break;
      case "commandComplete":
        command = (message as unknown as { text: string }).text.split(" ", 1)[0] as string;
        break;
    }
  }
  prepared.columns ??= [];
  return { command, columns: prepared.columns, rows };
}

function readRow(texts: readonly (string | null)[], parsers: readonly TextParser[]): unknown[] {
  return texts.map((text, index) => (text === null ? null : (parsers[index] as TextParser)(text)));
}

/** The plain data of an error, fit to cross between threads. */
function serverErrorOf(error: ServerError): ServerError {
  const { code, message, severity, detail, hint, where, constraint, routine } = error;
  return { code, message, severity, detail, hint, where, constraint, routine };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

const port = parentPort as NonNullable<typeof parentPort>;

function say(reply: EngineReply, transfer: ArrayBuffer[] = []): void {
  port.postMessage(reply, transfer);
}

/** Loads PGlite and brings the database up; says so. Undefined if that failed, which is said too. */
async function start(settings: EngineStart): Promise<{ engine: PGlite; session: Session } | undefined> {
  let module: typeof import("@electric-sql/pglite");
  try {
    module = await import("@electric-sql/pglite");
  } catch (error) {
    say({ kind: "unable", reason: "not-installed", message: messageOf(error) });
    return undefined;
  }
  const complaints: string[] = [];
  try {
    const engine = await module.PGlite.create({
      ...(settings.directory === undefined ? {} : { dataDir: settings.directory }),
      ...(settings.template === undefined ? {} : { loadDataDir: new Blob([settings.template]) }),
      // 16 MB of buffers instead of 128 save 150 MB of memory; the kernel's page cache does the rest.
      startParams: [...module.PGlite.defaultStartParams, "-c", "shared_buffers=16MB"],
      // Small log segments: an empty database takes 30 MB instead of 39.
      initDbStartParams: ["--wal-segsize=1"],
      onStderr: (text) => {
        complaints.push(text);
        return false;
      },
    });
    engine.onNotification((channel, payload) => say({ kind: "notification", channel, payload }));
    await sayReady(engine, settings);
    return { engine, session: new Session(engine, module.protocol.serialize) };
  } catch (error) {
    const fatal = complaints.find((text) => /FATAL|PANIC/.test(text)) ?? messageOf(error);
    say({ kind: "unable", reason: "failed", message: fatal });
    return undefined;
  }
}

async function sayReady(engine: PGlite, settings: EngineStart): Promise<void> {
  // To create a database takes ten times as long as to load one: the next one in this process begins with a copy.
  const wanted = settings.directory === undefined && settings.template === undefined;
  const archive = wanted ? await (await engine.dumpDataDir("none")).arrayBuffer() : undefined;
  if (archive === undefined) say({ kind: "ready", template: undefined });
  else say({ kind: "ready", template: new Uint8Array(archive) }, [archive]);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function answer(
  session: Session,
  request: EngineRequest & { kind: "statement" | "script" },
): Promise<void> {
  try {
    const result =
      request.kind === "statement" ? await session.run(request) : await session.script(request.sql);
    say({ kind: "answer", id: request.id, ...result });
  } catch (error) {
    const { code, severity } = error as Partial<ServerError>;
    // Anything but an error the server reported means that the engine itself came to an end.
    if (code === undefined || severity === undefined || severity === "PANIC") throw error;
    say({ kind: "error", id: request.id, error: error as ServerError });
  }
}

async function serve(settings: EngineStart): Promise<void> {
  const flags = new Int32Array(settings.flags);
  const started = await start(settings);
  if (started === undefined) return port.close();
  const { engine, session } = started;
  let last: Promise<void> = Promise.resolve();

  const handle = async (request: EngineRequest): Promise<void> => {
    if (Atomics.load(flags, flag.stop) === 1) return;
    if (request.kind === "stop") {
      await engine.close();
      say({ kind: "answer", id: request.id, command: "", columns: [], rows: [] });
      port.close();
      return;
    }
    Atomics.store(flags, flag.busy, 1);
    try {
      await answer(session, request);
    } finally {
      Atomics.store(flags, flag.busy, 0);
      Atomics.notify(flags, flag.busy);
    }
  };

  port.on("message", (request: EngineRequest) => {
    last = last
      .then(() => handle(request))
      .catch((error: unknown) => {
        Atomics.store(flags, flag.stop, 1);
        say({ kind: "broken", message: messageOf(error) });
        port.close();
      });
  });
}

await serve(workerData as EngineStart);
