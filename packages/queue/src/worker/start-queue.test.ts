import fc from "fast-check";
import { expect, test } from "vitest";
import type { Grant } from "../store/task-store.ts";
import { StartQueue, type TimedGrant } from "./start-queue.ts";

function timed(fence: number, fromUs: number): TimedGrant {
  const grant: Grant = {
    taskId: `task ${fence}`,
    fence,
    attempt: 1,
    failures: 0,
    maxAttempts: 5,
    startUs: fromUs,
    lane: 1,
    partition: "",
    name: "t",
    input: null,
    suspect: false,
  };
  return { grant, span: { fromUs, untilUs: fromUs + 10 } };
}

test("gives out what is due, earliest first and equals in the order they came, and keeps the rest", () => {
  const adds = fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 40 });
  const rounds = fc.array(fc.record({ adds, nowUs: fc.integer({ min: 0, max: 30 }) }), { maxLength: 6 });
  fc.assert(
    fc.property(rounds, (given) => {
      const queue = new StartQueue();
      let model: TimedGrant[] = [];
      let fence = 0;
      for (const round of given) {
        for (const fromUs of round.adds) {
          const item = timed(fence++, fromUs);
          queue.add(item);
          model.push(item);
        }
        // The sort is stable, so equals keep the order of their fences.
        model.sort((a, b) => a.span.fromUs - b.span.fromUs);
        expect(queue.nextUs).toBe(model[0]?.span.fromUs);
        const due = model.filter(({ span }) => span.fromUs <= round.nowUs);
        model = model.filter(({ span }) => span.fromUs > round.nowUs);
        expect(queue.takeDue(round.nowUs)).toEqual(due);
        expect(queue.size).toBe(model.length);
      }
      expect(queue.takeAll()).toEqual(model);
      expect(queue.size).toBe(0);
      expect(queue.nextUs).toBeUndefined();
    }),
    { numRuns: 500 },
  );
});
