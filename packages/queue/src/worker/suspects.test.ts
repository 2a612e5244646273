import { expect, test } from "vitest";
import type { ExchangeAnswer, Grant } from "../store/task-store.ts";
import { Suspects, SuspectTurns } from "./suspects.ts";

function answer(suspects: number, ...fences: number[]): ExchangeAnswer {
  const grants = fences.map((fence) => ({ fence, suspect: true }) as Grant);
  return {
    grants,
    suspects,
    stale: [],
    workerGone: false,
    patienceUs: 0,
    nowUs: 0,
    laneUs: undefined,
    timerUs: undefined,
  };
}

/** Two queues of one worker, and how often each was told to ask. */
function twoQueues() {
  const turns = new SuspectTurns();
  const woken = { a: 0, b: 0 };
  const a = new Suspects(turns, () => woken.a++);
  const b = new Suspects(turns, () => woken.b++);
  return { a, b, woken };
}

test("a queue asks only when it has heard that suspects wait, and then at once", () => {
  const { a, woken } = twoQueues();
  expect(a.ask()).toBeUndefined();
  a.heard(answer(0), undefined);
  expect(a.ask()).toBeUndefined();
  expect(woken.a).toBe(0);
  a.heard(answer(2), undefined);
  expect(woken.a).toBe(1);
  expect(a.ask()).toBeDefined();
});

test("the turn is held until the end of the suspect is recorded; then the other queue is told, and the same one", () => {
  const { a, b, woken } = twoQueues();
  a.heard(answer(3), undefined);
  a.heard(answer(3, 7), a.ask());
  b.heard(answer(1), undefined);
  expect([woken.a, woken.b]).toEqual([1, 0]);
  expect(a.ask()).toBeUndefined();
  expect(b.ask()).toBeUndefined();
  a.ended(6);
  expect(b.ask()).toBeUndefined();
  a.ended(7);
  expect([woken.a, woken.b]).toEqual([2, 1]);
  expect(b.ask()).toBeDefined();
});

test("a claim that brought none, or whose answer never came, gives the turn back, and does not ask again by itself", () => {
  const { a, b, woken } = twoQueues();
  a.heard(answer(1), undefined);
  a.heard(answer(1), a.ask());
  expect(woken.a).toBe(1);
  const turn = a.ask();
  b.heard(answer(1), undefined);
  expect(b.ask()).toBeUndefined();
  turn!.end();
  turn!.end();
  expect(woken.b).toBe(1);
  expect(b.ask()).toBeDefined();
});

test("a lost lease gives the turn back, once: a later end under it takes nobody's turn away", () => {
  const { a, b } = twoQueues();
  a.heard(answer(1), undefined);
  a.heard(answer(1, 7), a.ask());
  b.heard(answer(1), undefined);
  a.drop();
  b.heard(answer(1, 8), b.ask());
  a.ended(7);
  expect(a.ask()).toBeUndefined();
});
