import type { Clock, Timer } from "@sluice/core";

/** A small background service. Start and stop may come in any order and more than once. */
export interface Service {
  start(): void;
  /** Resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}

/** What one round of a service is and how often it comes. */
export interface Round {
  readonly clock: Clock;
  /** Names the service in errors. */
  readonly name: string;
  readonly everyUs: number;
  /** A number from 0 to 1, for jitter: rounds are spread over ±10 % so that processes do not march in step. */
  readonly chance: () => number;
  /** Does one round; a long one ends early once `going` says no. A rejection is reported and the next round comes all the same. */
  run(going: () => boolean): Promise<void>;
  failed(error: unknown, during: string): void;
}

/** A service that does its round at once and then at intervals, one at a time. */
export function periodicService(round: Round): Service {
  let timer: Timer | undefined;
  let running: Promise<void> | undefined;
  let started = false;
  const arm = (): void => {
    if (started) timer = round.clock.setTimer(turn, round.everyUs * (0.9 + 0.2 * round.chance()));
  };
  const turn = (): void => {
    running = round
      .run(() => started)
      .catch((error: unknown) => round.failed(error, round.name))
      .finally(() => {
        running = undefined;
        arm();
      });
  };
  return {
    start() {
      if (started) return;
      started = true;
      if (running === undefined) turn();
    },
    async stop() {
      started = false;
      timer?.cancel();
      await running;
    },
  };
}
