/**
 * The stand-in for the providers' API: plain HTTP on a loopback port, with the meter at its door.
 *
 *   GET  /                                             what there is, and the limits
 *   GET  /provider/{provider}/data_type/{data_type}?n=5   one request; 429 and Retry-After when over the limit
 *   GET  /meter                                        what the meter saw (JSON)
 *   POST /meter/reset                                  forget it
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { DataType } from "../providers.ts";
import {
  type DataTypeReport,
  Meter,
  type MeterLimit,
  type MeterRequest,
  type Stall,
  type Verdict,
} from "./meter.ts";
import { StallWatch } from "./stall-watch.ts";

/** What the stand-in serves and how long a request takes. */
export interface StandInOptions {
  readonly providers: readonly string[];
  readonly dataTypes: readonly DataType[];
  /** Shortest and longest time a request takes, in milliseconds; uniform between them. Default 20 to 80. */
  readonly latencyMs?: readonly [number, number];
}

/** The JSON of `GET /meter`; times are microseconds of the stand-in's own monotonic clock. */
export interface MeterReport {
  readonly nowUs: number;
  readonly dataTypes: readonly DataTypeReport[];
  readonly stalls: readonly Stall[];
}

/** A request as it came in, for whoever watches the stand-in. */
export interface ArrivalNotice extends Verdict {
  readonly dataType: string;
  /** Who called: the `User-Agent` of the request. */
  readonly caller: string;
}

/** A call whose caller went away before it had the answer. */
export interface CutNotice extends MeterRequest {
  readonly caller: string;
  readonly atUs: number;
}

/** Whom the stand-in tells what happens. Called synchronously, must not throw. */
export interface StandInWatcher {
  arrival(notice: ArrivalNotice): void;
  cut(notice: CutNotice): void;
}

/** A running stand-in. */
export interface StandIn {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  nowUs(): number;
  close(): Promise<void>;
}

interface Context {
  readonly options: StandInOptions;
  readonly meter: Meter;
  readonly stallWatch: StallWatch;
  readonly watcher: StandInWatcher;
  readonly nowUs: () => number;
}

const requestPath = /^\/provider\/([^/]+)\/data_type\/([^/]+)$/;

/** Starts the stand-in on an ephemeral port of 127.0.0.1. */
export async function startStandIn(options: StandInOptions, watcher: StandInWatcher): Promise<StandIn> {
  const startNs = process.hrtime.bigint();
  const nowUs = (): number => Number((process.hrtime.bigint() - startNs) / 1000n);
  const limits = options.dataTypes.map(({ name, limit, periodMs }): [string, MeterLimit] => [
    name,
    { limit, periodUs: periodMs * 1000 },
  ]);
  const context: Context = {
    options,
    meter: new Meter(Object.fromEntries(limits)),
    stallWatch: new StallWatch(nowUs, Math.min(...options.dataTypes.map(({ guardMs }) => guardMs))),
    watcher,
    nowUs,
  };
  const server = createServer((request, response) => serve(context, request, response));
  // Calls may be ten seconds apart; closing an idle connection between them would race with the next call.
  server.keepAliveTimeout = 120_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  context.stallWatch.start();
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, nowUs, close: () => closeServer(server, context.stallWatch) };
}

async function closeServer(server: Server, stallWatch: StallWatch): Promise<void> {
  stallWatch.stop();
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}

/** A request for a page, and who sent it. */
interface Call extends MeterRequest {
  readonly caller: string;
}

interface Answer {
  readonly status: number;
  readonly body: object;
  readonly headers?: Readonly<Record<string, string>>;
  /** The request that takes time to serve; absent for answers given at once. */
  readonly working?: Call;
}

function serve(context: Context, request: IncomingMessage, response: ServerResponse): void {
  // The time is taken before anything else: whatever is done first would count as lateness of the caller.
  const nowUs = context.nowUs();
  context.stallWatch.tick();
  const answer = answerTo(context, request, nowUs);
  const send = (): void => {
    response.writeHead(answer.status, { "Content-Type": "application/json", ...answer.headers });
    response.end(JSON.stringify(answer.body));
  };
  if (answer.working === undefined) send();
  else work(context, answer.working, response, send);
}

/** Takes the time of a request, and tells the watcher if the caller went away meanwhile. */
function work(context: Context, call: Call, response: ServerResponse, send: () => void): void {
  const [shortest, longest] = context.options.latencyMs ?? [20, 80];
  const timer = setTimeout(send, shortest + Math.random() * (longest - shortest));
  response.once("close", () => {
    if (response.writableFinished) return;
    clearTimeout(timer);
    context.watcher.cut({ ...call, atUs: context.nowUs() });
  });
}

function answerTo(context: Context, request: IncomingMessage, nowUs: number): Answer {
  const url = new URL(request.url ?? "/", "http://stand-in");
  const [, provider, dataType] = requestPath.exec(url.pathname) ?? [];
  const route = `${request.method} ${url.pathname}`;
  if (request.method === "GET" && provider !== undefined && dataType !== undefined) {
    const number = Number(url.searchParams.get("n"));
    const key = String(request.headers["idempotency-key"] ?? "");
    const caller = request.headers["user-agent"] ?? "";
    return answerCall(context, { provider, dataType, number, key, caller }, nowUs);
  }
  if (route === "GET /") return { status: 200, body: catalogue(context) };
  if (route === "GET /meter") {
    const { stalls } = context.stallWatch;
    const report: MeterReport = { nowUs, dataTypes: context.meter.report(stalls), stalls };
    return { status: 200, body: report };
  }
  if (route === "POST /meter/reset") {
    context.meter.reset();
    context.stallWatch.reset();
    return { status: 200, body: { reset: true } };
  }
  return { status: 404, body: { error: `no such resource: ${route}` } };
}

function answerCall(context: Context, call: Call, nowUs: number): Answer {
  const { provider, dataType, number, key, caller } = call;
  if (!context.options.providers.includes(provider) || !context.meter.knows(dataType)) {
    return { status: 404, body: { error: `unknown provider or data type: ${provider} ${dataType}` } };
  }
  if (!Number.isSafeInteger(number) || number < 1 || key === "") {
    return { status: 400, body: { error: "n must be a positive integer and Idempotency-Key must be given" } };
  }
  const verdict = context.meter.arrive(call, nowUs);
  context.watcher.arrival({ ...verdict, dataType, caller });
  if (verdict.refused) {
    const headers = { "Retry-After": String(Math.ceil(verdict.retryAfterUs / 1e6)) };
    return { status: 429, headers, body: { error: `over the limit of ${dataType}: ${verdict.limit}` } };
  }
  const body = { provider, data_type: dataType, n: number, repeated: verdict.repeat };
  return { status: 200, body, working: call };
}

function catalogue(context: Context): object {
  return {
    providers: context.options.providers,
    data_types: context.options.dataTypes.map(({ name, limit, periodMs }) => ({
      name,
      limit,
      period_ms: periodMs,
    })),
    request: "GET /provider/{provider}/data_type/{data_type}?n=1 with an Idempotency-Key",
  };
}
