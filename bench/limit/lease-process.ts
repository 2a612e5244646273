/** A process that takes from one hot key of a limit on Redis, with leases or without. */
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { cachedDenials, type Limit, type LimitStore, leased, limit } from "@sluice/core";
import { redis } from "@sluice/core/redis";
import { Redis } from "ioredis";
import { serveCalls } from "../harness/child-program.ts";

/** Argument of `open`. */
export interface OpenCall {
  readonly url: string;
  readonly name: string;
  readonly rate: string;
  readonly ladder: "Redis" | "leased" | "leased, denials cached";
}

/** Argument of `load`. */
export interface LoadCall {
  readonly inFlight: number;
  readonly seconds: number;
  /** From how many keys, in turn; 1 for the hot one. */
  readonly keys: number;
}

/** What a load came to. Instants are of the machine's monotonic clock, which all processes share. */
export interface LoadResult {
  readonly decisions: number;
  readonly admitted: number;
  readonly perSecond: number;
  /** Before the first question, and after the last answer. */
  readonly fromUs: number;
  readonly toUs: number;
  /** How many were admitted in each millisecond, by its number. */
  readonly admittedAt: readonly (readonly [number, number])[];
  /** The longest that an answer took, in microseconds: so much earlier may its decision have been. */
  readonly slowestUs: number;
}

let store: LimitStore | undefined;
let hot: Limit | undefined;

function open({ url, name, rate, ladder }: OpenCall): void {
  const client = new Redis(url);
  const near = redis(client);
  if (ladder === "Redis") store = near;
  else store = leased(ladder === "leased" ? near : cachedDenials(near));
  hot = limit(name, rate, { algorithm: "token-bucket", store });
}

function nowUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

async function load({ inFlight, seconds, keys }: LoadCall): Promise<LoadResult> {
  const admittedAt = new Map<number, number>();
  let [decisions, admitted, slowestUs] = [0, 0, 0];
  const fromUs = nowUs();
  let isOver = false;
  const limits = Array.from({ length: keys }, (_, i) => (keys === 1 ? hot! : hot!.for(`user:${i}`)));
  let next = 0;
  // Reading a clock costs as much as a decision, so 64 decisions share a reading and count as made when they were all in.
  const ask = async (): Promise<void> => {
    for (let round = 1; !isOver; round++) {
      // Decisions at hand never let go of the process by themselves, and answers of Redis could not come in.
      if (round % 16 === 0) await turn();
      const sentUs = nowUs();
      let own = 0;
      for (let i = 0; i < 64; i++) if ((await limits[next++ % keys]!.tryAcquire()).allowed) own++;
      const inUs = nowUs();
      decisions += 64;
      admitted += own;
      slowestUs = Math.max(slowestUs, inUs - sentUs);
      const ms = Math.floor(inUs / 1000);
      if (own > 0) admittedAt.set(ms, (admittedAt.get(ms) ?? 0) + own);
    }
  };
  const loops = Array.from({ length: inFlight }, ask);
  const over = sleep(seconds * 1000).then(() => {
    isOver = true;
  });
  await Promise.all([over, ...loops]);
  const toUs = nowUs();
  const perSecond = decisions / ((toUs - fromUs) / 1_000_000);
  return { decisions, admitted, perSecond, fromUs, toUs, admittedAt: [...admittedAt], slowestUs };
}

serveCalls({ open, load });
