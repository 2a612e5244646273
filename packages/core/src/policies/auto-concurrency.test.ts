import { describe, expect, test } from "vitest";
import { AutoConcurrency, type StartedCall } from "./auto-concurrency.ts";

/**
 * A server in virtual time with a knee: `slots` calls are worked on at once, each for `serviceUs()`, the others stand in queue. The
 * client keeps as many calls under way as it is told to.
 */
class Server {
  #nowUs = 0;
  readonly #ends: { atUs: number; call: StartedCall }[] = [];
  /** When each slot will be free. */
  #free: number[];

  readonly serviceUs: () => number;
  readonly failing: (running: number) => boolean;

  constructor(slots: number, serviceUs: () => number, failing: (running: number) => boolean = () => false) {
    this.serviceUs = serviceUs;
    this.failing = failing;
    this.#free = Array(slots).fill(0);
  }

  set slots(slots: number) {
    this.#free = Array(slots).fill(this.#nowUs);
  }

  /** Runs `calls` calls to their end; returns how long that took, and the mean of the concurrency over the last half. */
  run(auto: AutoConcurrency, calls: number, mayRun: () => number = () => Infinity) {
    const startUs = this.#nowUs;
    let sum = 0;
    for (let done = 0; done < calls; done++) {
      while (this.#ends.length < Math.min(auto.concurrency, mayRun())) {
        const call = auto.start(this.#nowUs);
        this.#free.sort((a, b) => a - b);
        const atUs = Math.max(this.#nowUs, this.#free[0]!) + this.serviceUs();
        this.#free[0] = atUs;
        this.#ends.push({ atUs, call });
      }
      this.#ends.sort((a, b) => a.atUs - b.atUs);
      const running = this.#ends.length;
      const end = this.#ends.shift()!;
      this.#nowUs = Math.max(this.#nowUs, end.atUs);
      auto.end(end.call, this.#nowUs, this.failing(running));
      if (2 * done >= calls) sum += auto.concurrency;
    }
    return { tookUs: this.#nowUs - startUs, concurrency: sum / Math.ceil(calls / 2) };
  }
}

/** Numbers from 0 to 1, the same in every run. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
}

const bounds = { min: 1, max: 256 };

describe("auto concurrency", () => {
  test.each([
    ["4", 4, [3.5, 8]],
    ["20", 20, [18, 30]],
    ["100", 100, [90, 135]],
  ] as const)("settles a little above a knee at %s, with all of the throughput", (_, knee, [low, high]) => {
    const server = new Server(knee, () => 10_000);
    const auto = new AutoConcurrency(bounds);
    server.run(auto, 200 * knee);
    const { tookUs, concurrency } = server.run(auto, 200 * knee);
    expect(concurrency).toBeGreaterThan(low);
    expect(concurrency).toBeLessThan(high);
    // The least that so many calls can take.
    expect((200 * 10_000) / tookUs).toBeGreaterThan(0.95);
  });

  test.each([1, 2, 3, 4, 5])("stands noise: latencies that differ by a factor of ten, seed %i", (seed) => {
    const random = chance(seed);
    const service = (): number => 2_000 + Math.ceil(-8_000 * Math.log(1 - random()));
    const server = new Server(20, service);
    const auto = new AutoConcurrency(bounds);
    server.run(auto, 4_000);
    const { tookUs, concurrency } = server.run(auto, 8_000);
    expect(concurrency).toBeGreaterThan(12);
    expect(concurrency).toBeLessThan(60);
    expect((8_000 / 20) * 10_000).toBeGreaterThan(0.8 * tookUs);
  });

  test("finds the knee soon: within 40 rounds it works at 90 % of the throughput", () => {
    const server = new Server(64, () => 10_000);
    const auto = new AutoConcurrency(bounds);
    const { tookUs } = server.run(auto, 64 * 40);
    expect(tookUs).toBeLessThan(40 * 10_000 + 20 * 10_000);
    expect(auto.concurrency).toBeGreaterThan(58);
  });

  test("follows a knee that moves, both ways", () => {
    const server = new Server(40, () => 10_000);
    const auto = new AutoConcurrency(bounds);
    server.run(auto, 8_000);
    server.slots = 8;
    server.run(auto, 4_000);
    expect(server.run(auto, 2_000).concurrency).toBeLessThan(16);
    server.slots = 40;
    server.run(auto, 8_000);
    expect(server.run(auto, 8_000).concurrency).toBeGreaterThan(34);
  });

  test("does not take a server that became slower for one with a queue", () => {
    let serviceUs = 10_000;
    const server = new Server(30, () => serviceUs);
    const auto = new AutoConcurrency(bounds);
    server.run(auto, 6_000);
    serviceUs = 40_000;
    server.run(auto, 6_000);
    expect(server.run(auto, 6_000).concurrency).toBeGreaterThan(25);
  });

  test("stays where it is while calls are held back, whatever they take", () => {
    const server = new Server(1_000, () => 10_000);
    const auto = new AutoConcurrency(bounds);
    const before = auto.concurrency;
    server.run(auto, 5_000, () => 2);
    expect(auto.concurrency).toBe(before);
  });

  test("goes to its maximum where more is always better, and never beyond", () => {
    const server = new Server(200, () => 10_000);
    const auto = new AutoConcurrency({ min: 1, max: 50 });
    server.run(auto, 20_000);
    expect(server.run(auto, 1_000).concurrency).toBeGreaterThan(45);
    expect(auto.concurrency).toBeLessThanOrEqual(50);
  });

  test("goes down to its minimum when calls fail, and never below", () => {
    const server = new Server(
      100,
      () => 10_000,
      () => true,
    );
    const auto = new AutoConcurrency({ min: 2, max: 50 });
    server.run(auto, 2_000);
    expect(auto.concurrency).toBe(2);
  });

  test("steps back from where more calls begin to fail", () => {
    const server = new Server(
      100,
      () => 10_000,
      (running) => running > 30,
    );
    const auto = new AutoConcurrency(bounds);
    server.run(auto, 5_000);
    const { concurrency } = server.run(auto, 20_000);
    expect(concurrency).toBeGreaterThan(15);
    expect(concurrency).toBeLessThan(40);
  });

  test("works with calls that take no time at all", () => {
    const server = new Server(10, () => 0);
    const auto = new AutoConcurrency(bounds);
    server.run(auto, 5_000);
    expect(auto.concurrency).toBeGreaterThanOrEqual(1);
    expect(auto.concurrency).toBeLessThanOrEqual(256);
  });
});
