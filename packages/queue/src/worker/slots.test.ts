import fc from "fast-check";
import { expect, test } from "vitest";
import { Slots } from "./slots.ts";

test("never lends more than it has, and counts what is out", () => {
  const step = fc.oneof(
    fc.record({ take: fc.integer({ min: -2, max: 12 }) }),
    fc.record({ release: fc.integer({ min: 0, max: 12 }) }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10 }), fc.array(step), (capacity, steps) => {
      const slots = new Slots(capacity);
      let out = 0;
      for (const each of steps) {
        if ("take" in each) {
          const taken = slots.take(each.take);
          expect(taken).toBe(Math.max(0, Math.min(each.take, capacity - out)));
          out += taken;
        } else {
          const count = Math.min(each.release, out);
          slots.release(count);
          out -= count;
        }
        expect(slots.used).toBe(out);
        expect(slots.free).toBe(capacity - out);
      }
    }),
  );
});

/** A queue that always has more to run: takes one slot a turn and stands in line again. */
class Busy {
  served = 0;
  readonly #slots: Slots;

  constructor(slots: Slots) {
    this.#slots = slots;
  }

  readonly serve = (): void => {
    if (this.#slots.take(1) === 1) this.served++;
    this.#slots.join(this.serve);
  };
}

test("serves those in line in turn, so that none of them is starved", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 6 }), (capacity, count) => {
      const slots = new Slots(capacity);
      const queues = Array.from({ length: count }, () => new Busy(slots));
      for (const queue of queues) queue.serve();
      while (slots.free > 0) slots.take(1);
      for (const queue of queues) queue.served = 0;
      for (let turn = 0; turn < 5 * count; turn++) slots.release(1);
      expect(queues.map((queue) => queue.served)).toEqual(queues.map(() => 5));
      expect(slots.used).toBe(capacity);
    }),
  );
});

test("each in line is served once for one release of many slots, and the call returns", () => {
  const slots = new Slots(3);
  slots.take(3);
  let turns = 0;
  const idle = (): void => {
    turns++;
    slots.join(idle);
  };
  slots.join(idle);
  slots.release(3);
  expect(turns).toBe(1);
});

test("who left the line is not served, and joining twice is one place", () => {
  const slots = new Slots(1);
  slots.take(1);
  const calls: string[] = [];
  const first = (): void => void calls.push("first");
  const second = (): void => void calls.push("second");
  slots.join(first);
  slots.join(second);
  slots.join(second);
  slots.leave(first);
  slots.release(1);
  expect(calls).toEqual(["second"]);
});

test("who is served may release slots itself: the line is served once from within, and nobody is called who has left", () => {
  const slots = new Slots(2);
  slots.take(2);
  const served: string[] = [];
  slots.join(() => {
    served.push("first");
    slots.take(1);
    slots.release(1);
  });
  slots.join(() => served.push("second"));
  slots.join(() => served.push("third"));
  slots.release(1);
  expect(served).toEqual(["first", "second", "third"]);
});
