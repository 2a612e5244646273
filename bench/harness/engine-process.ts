/**
 * A process that hosts one engine, as a producer, a worker or both, and does what a suite asks of it. Counts and
 * times are bounded by the caller; instants are on the monotonic clock that all processes of the machine share.
 */
import type { Engine, EngineOptions, Item } from "../peers/peer.ts";
import { eachInFlight } from "../peers/peer.ts";
import { loadPeer, type PeerName } from "../peers/peers.ts";
import { notify, serveCalls } from "./child-program.ts";
import { MeterClient } from "./meter-client.ts";
import { monotonicUs, pause } from "./monotonic-clock.ts";

/** Argument of `open` and `install`. */
export interface OpenCall {
  readonly peer: PeerName;
  readonly options: EngineOptions;
}

/** Argument of `fill`: `count` items over `lanes` lanes, `batch` per call. */
export interface FillCall {
  readonly count: number;
  readonly lanes: number;
  readonly batch: number;
}

/** Argument of `produce`: enqueue until `count` items or `seconds` are over. `batch` 1: one by one, `inFlight` at once. */
export interface ProduceCall {
  readonly count: number;
  readonly seconds: number;
  readonly batch: number;
  readonly inFlight: number;
}

/** What was done in how long. */
export interface Done {
  readonly count: number;
  readonly seconds: number;
}

let engine: Engine | undefined;

function current(): Engine {
  if (engine === undefined) throw new Error("no engine is open");
  return engine;
}

function itemsFrom(first: number, count: number, lanes: number): Item[] {
  return Array.from({ length: count }, (_, i) => ({ n: first + i, lane: (first + i) % lanes }));
}

async function fill(call: FillCall): Promise<Done> {
  const startUs = monotonicUs();
  for (let n = 0; n < call.count; n += call.batch) {
    await current().enqueueMany(itemsFrom(n, Math.min(call.batch, call.count - n), call.lanes));
  }
  return { count: call.count, seconds: (monotonicUs() - startUs) / 1e6 };
}

/**
 * Works until `count` handlers have run and the store says that all is done. Time runs from when the worker is up, or
 * from the first handler if that is earlier: connecting and checking schemas is no part of it, the first claim is.
 */
async function drain(call: { readonly count: number }): Promise<Done> {
  let fromUs = Number.POSITIVE_INFINITY;
  let started = 0;
  const begin = (): void => {
    fromUs = Math.min(fromUs, monotonicUs());
  };
  await new Promise<void>((resolve) => {
    const handler = (): void => {
      if (started++ === 0) begin();
      if (started === call.count) resolve();
    };
    current().work(handler).then(begin, fail);
  });
  while (await current().busy()) await pause(2);
  return { count: started, seconds: (monotonicUs() - fromUs) / 1e6 };
}

function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
}

async function produce(call: ProduceCall): Promise<Done> {
  const startUs = monotonicUs();
  const endUs = startUs + call.seconds * 1e6;
  let sent = 0;
  if (call.batch > 1) {
    while (sent < call.count && monotonicUs() < endUs) {
      await current().enqueueMany(itemsFrom(sent, call.batch, 1));
      sent += call.batch;
    }
  } else {
    const items = itemsFrom(0, call.count, 1);
    await eachInFlight(items, call.inFlight, async (item) => {
      if (monotonicUs() >= endUs) return;
      await current().enqueue(item);
      sent += 1;
    });
  }
  return { count: sent, seconds: (monotonicUs() - startUs) / 1e6 };
}

serveCalls({
  install: async (call: OpenCall) => {
    await (await loadPeer(call.peer)).install(call.options);
  },
  open: async (call: OpenCall) => {
    engine = await (await loadPeer(call.peer)).open(call.options);
  },
  fill,
  drain,
  produce,
  /** Works for the meter: every handler is one call of it. */
  workForMeter: async (call: { readonly port: number }) => {
    const meter = await MeterClient.connect(call.port);
    await current().work((item) => meter.call(item.lane));
  },
  /** Works and tells the parent of each start. */
  workAndNotify: async () => {
    await current().work((item) => notify("start", item.n, monotonicUs()));
  },
  /** Enqueues one item; answers the instant of the call. */
  enqueueOne: async (item: Item) => {
    const atUs = monotonicUs();
    await current().enqueue(item);
    return atUs;
  },
  close: async () => {
    await current().close();
  },
});
