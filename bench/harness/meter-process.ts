/**
 * The meter: the far end that handlers call, a process of its own with its own monotonic clock. It speaks a line
 * protocol over TCP (the lane's number, newline; answered by a dot) and notes the instant at which each call was
 * read. It also measures its own stalls: a timer due every millisecond that comes late was late because the event
 * loop (or the whole process) stood still.
 */
import { createServer, type Socket } from "node:net";
import { setPriority } from "node:os";
import { serveCalls } from "./child-program.ts";
import { monotonicUs } from "./monotonic-clock.ts";
import type { Stall } from "./windows.ts";

/** What the meter saw, instants in microseconds of its clock. */
export interface Reading {
  readonly startsUs: readonly number[];
  /** Lane of each start, in step with `startsUs`. */
  readonly lanes: readonly number[];
  /** Stalls of at least `stallUs`. */
  readonly stalls: readonly Stall[];
}

const tickMs = 1;
/** A tick later than this is noted as a stall; the reader then keeps those longer than the guard. */
const stallUs = 1_000;

let startsUs: number[] = [];
let lanes: number[] = [];
let stalls: Stall[] = [];
let lastTickUs = monotonicUs();

function tick(): void {
  const now = monotonicUs();
  const lateUs = now - lastTickUs - tickMs * 1000;
  if (lateUs >= stallUs) stalls.push({ fromUs: lastTickUs, toUs: now });
  lastTickUs = now;
}

function serve(socket: Socket): void {
  socket.setNoDelay(true);
  let rest = "";
  socket.on("data", (chunk) => {
    const now = monotonicUs();
    const lines = (rest + chunk.toString("latin1")).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) {
      startsUs.push(now);
      lanes.push(Number(line));
    }
    socket.write(".".repeat(lines.length));
  });
  socket.on("error", () => socket.destroy());
}

const server = createServer(serve);

/** The meter must not be what is late. Without the right to a higher priority it runs at the normal one. */
function raisePriority(): boolean {
  try {
    setPriority(-10);
    return true;
  } catch {
    return false;
  }
}

serveCalls({
  open: async () => {
    const raised = raisePriority();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    setInterval(tick, tickMs);
    const address = server.address();
    return { port: typeof address === "object" ? address?.port : undefined, raised };
  },
  count: () => startsUs.length,
  read: (): Reading => {
    const reading = { startsUs, lanes, stalls };
    startsUs = [];
    lanes = [];
    stalls = [];
    return reading;
  },
});
