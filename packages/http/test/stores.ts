import { type LimitStore, memory, SluiceError } from "@sluice/core";
import { signal } from "./serve.ts";

/** A store that nobody answers. */
export function silentStore(): LimitStore {
  const fail = (): never => {
    throw new SluiceError("store_unavailable", "nobody answers");
  };
  return {
    consume: fail,
    consumeUpTo: fail,
    consumeAll: fail,
    peek: fail,
    settle: fail,
    block: fail,
    renew: fail,
    release: fail,
    reset: fail,
    close: () => {},
  };
}

/** A distant store whose answer to `consume` the test gives when it likes. */
export function slowStore(): {
  readonly store: LimitStore;
  readonly asked: ReturnType<typeof signal>;
  readonly answer: () => void;
} {
  const near = memory();
  const asked = signal();
  let answer = (): void => {};
  const store: LimitStore = {
    ...silentStore(),
    async consume(rule, key, cost) {
      await new Promise<void>((resolve) => {
        answer = resolve;
        asked();
      });
      return near.consume(rule, key, cost);
    },
  };
  return { store, asked, answer: () => answer() };
}
