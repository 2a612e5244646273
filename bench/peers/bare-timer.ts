import { monotonicUs } from "../harness/monotonic-clock.ts";
import type { Engine, Handler, Peer } from "./peer.ts";

/**
 * The floor under pacing: no queue at all, one process that calls the handler at even intervals on its own timer. What
 * its starts show at the meter is the machine, the timer of Node.js and the meter itself.
 */
class BareTimer implements Engine {
  readonly #intervalUs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(intervalUs: number) {
    this.#intervalUs = intervalUs;
  }

  enqueue(): Promise<void> {
    return Promise.resolve();
  }

  enqueueMany(): Promise<void> {
    return Promise.resolve();
  }

  work(handler: Handler): Promise<void> {
    const fromUs = monotonicUs();
    let n = 0;
    // Against the start, not the start before it, so that lateness does not add up.
    const run = (): void => {
      while (fromUs + n * this.#intervalUs <= monotonicUs()) void handler({ n: n++, lane: 0 });
      const waitUs = fromUs + n * this.#intervalUs - monotonicUs();
      this.#timer = setTimeout(run, Math.max(0, waitUs / 1000));
    };
    run();
    return Promise.resolve();
  }

  busy(): Promise<boolean> {
    return Promise.resolve(false);
  }

  close(): Promise<void> {
    clearTimeout(this.#timer);
    return Promise.resolve();
  }
}

/** The bare timer as an engine. Its only setting is the rate. */
export const bareTimer: Peer = {
  store: "none",
  install: () => Promise.resolve(),
  open(options) {
    if (options.rate === undefined) throw new Error("a bare timer needs a rate");
    return Promise.resolve(new BareTimer((options.rate.periodMs * 1000) / options.rate.limit));
  },
};
