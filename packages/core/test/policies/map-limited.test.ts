import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { concurrency, type Decision, limit, type MapProgress, mapLimited } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { describe, expect, test, vi } from "vitest";

const oops = new Error("oops");

/** Calls that end when the test says so. */
function workshop() {
  const open = new Map<number, PromiseWithResolvers<string>>();
  const started: number[] = [];
  let most = 0;
  const call = (item: number): Promise<string> => {
    const work = Promise.withResolvers<string>();
    open.set(item, work);
    started.push(item);
    most = Math.max(most, open.size);
    return work.promise;
  };
  const end = async (item: number): Promise<void> => {
    open.get(item)!.resolve(`${item}!`);
    open.delete(item);
    await turn();
  };
  return { call, end, open, started, most: () => most };
}

/** Lets everything that can go on without time or I/O go on. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const numbers = function* (closed: { done: boolean } = { done: false }): Generator<number> {
  try {
    for (let i = 0; ; i++) yield i;
  } finally {
    closed.done = true;
  }
};

describe("mapLimited, awaited", () => {
  test("gives the results in the order of the items, whatever the order of their ends", async () => {
    const { call, end, started } = workshop();
    const results = mapLimited([1, 2, 3, 4], call, { concurrency: 2 }).then((all) => all);
    await turn();
    expect(started).toEqual([1, 2]);
    for (const item of [2, 3, 4, 1]) await end(item);
    expect(await results).toEqual(["1!", "2!", "3!", "4!"]);
  });

  test("or in the order of their ends", async () => {
    const { call, end } = workshop();
    const results = mapLimited([1, 2, 3], call, { concurrency: 3, order: "completion" }).then((all) => all);
    await turn();
    for (const item of [3, 1, 2]) await end(item);
    expect(await results).toEqual(["3!", "1!", "2!"]);
  });

  test("never has more under way than the concurrency, and keeps it busy", async () => {
    const { call, end, open, most } = workshop();
    const results = mapLimited(
      Array.from({ length: 50 }, (_, i) => i),
      call,
      { concurrency: 7 },
    );
    const all = results.then((list) => list);
    await turn();
    while (open.size > 0) {
      if (open.size < 7) expect(open.size).toBeGreaterThan(0);
      await end([...open.keys()].at(open.size >> 1)!);
    }
    expect([most(), (await all).length]).toEqual([7, 50]);
  });

  test("takes promises as items, functions that return values, and nothing at all", async () => {
    expect(await mapLimited([Promise.resolve(2), 3], (n) => n * 2)).toEqual([4, 6]);
    expect(await mapLimited([], () => 1)).toEqual([]);
    expect(await mapLimited(new Set([1]), (n, { index }) => [n, index])).toEqual([[1, 0]]);
    expect(await mapLimited([1, 2], () => undefined)).toEqual([undefined, undefined]);
  });

  test("can be used as any promise, and more than once", async () => {
    const results = mapLimited([1, 2], (n) => n);
    expect(await results).toEqual([1, 2]);
    expect(await results).toEqual([1, 2]);
    const last = vi.fn();
    await results.finally(last);
    expect(last).toHaveBeenCalledTimes(1);
    expect(await mapLimited([1], () => Promise.reject(oops)).catch((error: unknown) => error)).toBe(oops);
    await expect(async () => {
      for await (const _ of results) expect.unreachable();
    }).rejects.toMatchObject({ code: "closed" });
  });

  test("does nothing until it is asked for", async () => {
    const call = vi.fn();
    mapLimited([1], call);
    await turn();
    expect(call).not.toHaveBeenCalled();
  });
});

describe("mapLimited, iterated", () => {
  test("reads an endless source only as far as the consumer comes", async () => {
    let read = 0;
    const source = (function* () {
      for (;;) yield read++;
    })();
    const seen: number[] = [];
    for await (const result of mapLimited(source, async (n) => n, { concurrency: 3, buffer: 2 })) {
      seen.push(result);
      await turn();
      expect(read).toBeLessThanOrEqual(seen.length + 3 + 2);
      if (seen.length === 20) break;
    }
    expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  test("who leaves ends the rest: the signal fires, the source is closed, nothing starts any more", async () => {
    const closed = { done: false };
    const signals: AbortSignal[] = [];
    const call = async (n: number, { signal }: { signal: AbortSignal }): Promise<number> => {
      signals.push(signal);
      if (n > 2)
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      return n;
    };
    for await (const n of mapLimited(numbers(closed), call, { concurrency: 4 })) if (n === 2) break;
    const started = signals.length;
    await turn();
    expect([closed.done, signals.every(({ aborted }) => aborted)]).toEqual([true, true]);
    expect(signals.length).toBe(started);
  });

  test("takes an async source, and asks it for one item at a time", async () => {
    let asked = 0;
    const source = {
      async *[Symbol.asyncIterator]() {
        for (let i = 0; i < 10; i++) {
          expect(++asked).toBe(1);
          await turn();
          asked--;
          yield i;
        }
      },
    };
    const seen: number[] = [];
    for await (const n of mapLimited(source, async (i) => i * i, { concurrency: 4 })) seen.push(n);
    expect(seen).toEqual([0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);
  });

  test("an error of the source ends it, and the source is not closed over it", async () => {
    const closing = vi.fn();
    const source = {
      next: () => Promise.reject(oops),
      return: closing,
      [Symbol.asyncIterator]: () => source,
    };
    await expect(mapLimited(source as never, (n) => n)).rejects.toBe(oops);
    expect(closing).not.toHaveBeenCalled();
  });
});

describe("mapLimited and errors", () => {
  test("the first error ends everything: it is thrown, and the reason of the signal", async () => {
    const reasons: unknown[] = [];
    const started: number[] = [];
    const call = async (n: number, { signal }: { signal: AbortSignal }): Promise<number> => {
      started.push(n);
      if (n === 1) throw oops;
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          reasons.push(signal.reason);
          reject(new Error("a second one, which nobody hears of"));
        }),
      );
    };
    await expect(mapLimited([0, 1, 2, 3, 4, 5], call, { concurrency: 3 })).rejects.toBe(oops);
    await turn();
    expect([started, reasons]).toEqual([
      [0, 1, 2],
      [oops, oops],
    ]);
  });

  test("does not wait for calls that do not heed the signal", async () => {
    const call = (n: number): Promise<never> => (n === 0 ? new Promise(() => {}) : Promise.reject(oops));
    await expect(mapLimited([0, 1], call, { concurrency: 2 })).rejects.toBe(oops);
  });

  test("collect: all items are worked on, and results say how each ended", async () => {
    const call = async (n: number): Promise<number> => {
      if (n % 2 === 1) throw oops;
      return n;
    };
    expect(await mapLimited([0, 1, 2], call, { errors: "collect" })).toEqual([
      { status: "fulfilled", value: 0 },
      { status: "rejected", reason: oops },
      { status: "fulfilled", value: 2 },
    ]);
  });

  test("an abort from outside rejects with its reason and leaves no listener", async () => {
    const cancel = new AbortController();
    const removed = vi.spyOn(cancel.signal, "removeEventListener");
    const results = mapLimited([1, 2], () => new Promise(() => {}), { signal: cancel.signal });
    const outcome = expect(results).rejects.toBe("enough");
    await turn();
    cancel.abort("enough");
    await outcome;
    expect(removed).toHaveBeenCalled();
    const call = vi.fn();
    await expect(mapLimited([1], call, { signal: cancel.signal })).rejects.toBe("enough");
    expect(call).not.toHaveBeenCalled();
  });

  test("an onProgress that throws ends it", async () => {
    const onProgress = (): void => {
      throw oops;
    };
    await expect(mapLimited([1, 2], (n) => n, { onProgress })).rejects.toBe(oops);
  });

  test.each([
    [null, (n: number) => n, {}],
    [5, (n: number) => n, {}],
    ["text", (n: number) => n, {}],
    [[1], "call", {}],
    [[1], (n: number) => n, { concurrency: 0 }],
    [[1], (n: number) => n, { concurrency: 1.5 }],
    [[1], (n: number) => n, { concurrency: "fast" }],
    [[1], (n: number) => n, { limit: {} }],
    [[1], (n: number) => n, { buffer: -1 }],
    [[1], (n: number) => n, { stopOnError: true }],
  ])("refuses (%o, %o, %o)", (items, call, options) => {
    const code = { code: "invalid_option" };
    expect(() => mapLimited(items as never, call as never, options as never)).toThrow(
      expect.objectContaining(code),
    );
  });
});

describe("mapLimited and limits", () => {
  test("starts no faster than the limit, in the order of the items", async () => {
    const clock = virtualClock();
    const l = limit("l", "2/s", { clock });
    const startUs = clock.nowUs();
    const starts: [number, number][] = [];
    const results = mapLimited([0, 1, 2, 3, 4, 5, 6], (n) => void starts.push([n, clock.nowUs() - startUs]), {
      limit: l,
      concurrency: 5,
    }).then(() => {});
    await clock.advanceAsync(3_000_000);
    await results;
    const s = 1_000_000;
    expect(starts).toEqual([
      [0, 0],
      [1, 0],
      [2, s],
      [3, s],
      [4, 2 * s],
      [5, 2 * s],
      [6, 3 * s],
    ]);
  });

  test("takes cost and key from the item", async () => {
    const l = limit("l", "100/h");
    const options = { limit: l, cost: (n: number) => n, key: (n: number) => (n > 2 ? "large" : "small") };
    await mapLimited([1, 2, 3, 4], () => 0, options);
    expect([await l.for("small").available(), await l.for("large").available()]).toEqual([97, 93]);
  });

  test("who leaves gives up the places in the line", async () => {
    const l = limit("l", "1/h");
    for await (const _ of mapLimited([1, 2, 3, 4], (n) => n, { limit: l, concurrency: 4 })) break;
    await turn();
    expect(l.waiters).toBe(0);
  });

  test("what is admitted after it has ended is not started, and its slot is given back", async () => {
    const late = Promise.withResolvers<Decision>();
    const released = vi.fn();
    const decision = { allowed: true, [Symbol.asyncDispose]: released } as unknown as Decision;
    const call = vi.fn(async () => {
      throw oops;
    });
    let asked = 0;
    const acquire = (): Promise<Decision> => (asked++ === 0 ? Promise.resolve(decision) : late.promise);
    await expect(mapLimited([1, 2], call, { limit: { acquire }, concurrency: 2 })).rejects.toBe(oops);
    late.resolve(decision);
    await turn();
    expect([call.mock.calls.length, released.mock.calls.length]).toEqual([1, 2]);
  });

  test("a concurrency limit holds its slots while an item is worked on", async () => {
    const slots = concurrency("slots", 3);
    const { call, end, open, most } = workshop();
    const results = mapLimited([1, 2, 3, 4, 5, 6, 7], call, { limit: slots, concurrency: 7 }).then(
      (all) => all,
    );
    await turn();
    while (open.size > 0) await end([...open.keys()][0]!);
    expect([(await results).length, most()]).toEqual([7, 3]);
    expect((await slots.peek()).remaining).toBe(3);
  });

  test("tells how far it is", async () => {
    const seen: MapProgress[] = [];
    const call = (n: number): number => {
      if (n === 2) throw oops;
      return n;
    };
    await mapLimited([1, 2, 3], call, { concurrency: 1, errors: "collect", onProgress: (p) => seen.push(p) });
    expect(seen).toEqual(
      [1, 2, 3].map((done) => ({ done, failed: done > 1 ? 1 : 0, running: 0, concurrency: 1, total: 3 })),
    );
  });

  test("hundreds of items in a line cause no warning about listeners", async () => {
    const warned = vi.fn();
    process.on("warning", warned);
    const l = limit("l", "100000/s");
    await mapLimited(
      Array.from({ length: 500 }, (_, i) => i),
      async () => turn(),
      { limit: l, concurrency: 200 },
    );
    await turn();
    process.off("warning", warned);
    expect(warned).not.toHaveBeenCalled();
  });
});

describe('mapLimited with concurrency "auto"', () => {
  /** A server of which `slots` calls at once take 10 ms each, and the others stand in queue, in virtual time. */
  function server(slots: number) {
    const clock = virtualClock();
    let running = 0;
    const queue: (() => void)[] = [];
    const next = (): void => {
      while (running < slots && queue.length > 0) {
        running++;
        const done = queue.shift()!;
        clock.setTimer(() => {
          running--;
          next();
          done();
        }, 10_000);
      }
    };
    const call = (): Promise<void> =>
      new Promise((resolve) => {
        queue.push(resolve);
        next();
      });
    return { clock, call };
  }

  test("finds the knee of a server", async () => {
    const { clock, call } = server(12);
    const seen: number[] = [];
    const startUs = clock.nowUs();
    let endUs = 0;
    const all = mapLimited(Array.from({ length: 3000 }), call, {
      clock,
      onProgress: ({ concurrency }) => seen.push(concurrency),
    }).then(() => {
      endUs = clock.nowUs();
    });
    await clock.advanceAsync(4_000_000);
    await all;
    const settled = seen.slice(1500);
    const mean = settled.reduce((sum, each) => sum + each, 0) / settled.length;
    expect(mean).toBeGreaterThan(10.5);
    expect(mean).toBeLessThan(20);
    // 3 000 calls of 10 ms by 12 at once take 2.5 s at the least.
    expect(endUs - startUs).toBeLessThan(1.1 * 2_500_000);
  });

  test("stays small while a limit sets the pace", async () => {
    const { clock, call } = server(1000);
    const l = limit("l", "100/s", { algorithm: "token-bucket", burst: 1, clock });
    const seen: number[] = [];
    const options = { clock, limit: l, onProgress: ({ concurrency }: MapProgress) => seen.push(concurrency) };
    const all = mapLimited(Array.from({ length: 500 }), call, options).then(() => clock.nowUs());
    await clock.advanceAsync(6_000_000);
    await all;
    expect(Math.max(...seen)).toBeLessThanOrEqual(8);
  });

  test("finds the knee of a real HTTP server, and uses what it can do", { timeout: 60_000 }, async () => {
    const slots = 8;
    let running = 0;
    const queue: (() => void)[] = [];
    const next = (): void => {
      if (running >= slots) return;
      const start = queue.shift();
      if (start === undefined) return;
      running++;
      start();
    };
    const web = createServer((_, response) => {
      queue.push(() =>
        setTimeout(() => {
          response.end("done");
          running--;
          next();
        }, 15),
      );
      next();
    });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/`;
    try {
      const seen: number[] = [];
      await mapLimited(
        Array.from({ length: 1200 }),
        async (_, { signal }) => (await fetch(url, { signal })).text(),
        { onProgress: ({ concurrency }) => seen.push(concurrency), concurrencyMax: 100 },
      );
      const settled = seen.slice(600);
      const mean = settled.reduce((sum, each) => sum + each, 0) / settled.length;
      // Beyond 4 to be sure that it climbed, and far below the hundred that a mere greedy climb would reach.
      expect(mean).toBeGreaterThan(5.5);
      expect(mean).toBeLessThan(24);
    } finally {
      web.closeAllConnections();
      web.close();
    }
  });
});
