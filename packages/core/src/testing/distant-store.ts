import type { LimitStore } from "../limit/store.ts";
import type { VirtualClock } from "./virtual-clock.ts";

/**
 * A store that answers by promise, as one across a network does.
 * @param store Who decides, when the latency has passed.
 * @param latencyUs How long an answer takes, in microseconds of the clock.
 */
export function distantStore(store: LimitStore, clock: VirtualClock, latencyUs: number): LimitStore {
  const later = <Result>(work: () => Result): Promise<Awaited<Result>> =>
    new Promise((resolve, reject) => {
      clock.setTimer(() => {
        try {
          resolve(work() as Awaited<Result>);
        } catch (error) {
          reject(error);
        }
      }, latencyUs);
    });
  return {
    consume: (rule, key, cost) => later(() => store.consume(rule, key, cost)),
    consumeUpTo: (rule, key, most) => later(() => store.consumeUpTo(rule, key, most)),
    consumeAll: (draws) => later(() => store.consumeAll(draws)),
    peek: (rule, key, cost) => later(() => store.peek(rule, key, cost)),
    settle: (rule, key, charge, actual) => later(() => store.settle(rule, key, charge, actual)),
    block: (rule, key, forUs) => later(() => store.block(rule, key, forUs)),
    renew: (rule, key, fence) => later(() => store.renew(rule, key, fence)),
    release: (rule, key, fence) => later(() => store.release(rule, key, fence)),
    reset: (rule, key) => later(() => store.reset(rule, key)),
    close: () => store.close(),
  };
}
