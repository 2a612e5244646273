import { expect, test } from "vitest";
import type { NewTask, TaskStore } from "../store/task-store.ts";
import { EnqueueBatch } from "./enqueue-batch.ts";

function task(id: string): NewTask {
  return {
    id,
    name: "t",
    partition: "",
    input: null,
    maxAttempts: 1,
    delayUs: null,
    runAtUs: null,
    key: null,
  };
}

/** A store that records what it is given and answers when told to. */
class HeldStore {
  readonly calls: { ids: string[]; answer: (error?: Error) => void }[] = [];
  readonly port: TaskStore = {
    taskEnqueue: (_queueId: number, tasks: readonly NewTask[]) =>
      new Promise((resolve, reject) => {
        const answer = (error?: Error): void => (error === undefined ? resolve(new Map()) : reject(error));
        this.calls.push({ ids: tasks.map(({ id }) => id), answer });
      }),
  } as Partial<TaskStore> as TaskStore;

  get batches(): string[][] {
    return this.calls.map(({ ids }) => ids);
  }
}

const microtasks = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const ids = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `${from + i}`);

test("what is enqueued in one turn goes in one statement, in order", async () => {
  const store = new HeldStore();
  const batch = new EnqueueBatch(store.port, 7);
  const all = Promise.all(ids(5).map((id) => batch.add(task(id))));
  await microtasks();
  expect(store.batches).toEqual([ids(5)]);
  store.calls[0]!.answer();
  await all;
});

test("a few that come while a statement is under way wait for it, and go together", async () => {
  const store = new HeldStore();
  const batch = new EnqueueBatch(store.port, 7);
  const first = batch.add(task("first"));
  await microtasks();
  const others = ["a", "b", "c"].map(async (id) => {
    const added = batch.add(task(id));
    await microtasks();
    return added;
  });
  await microtasks();
  expect(store.batches).toEqual([["first"]]);
  store.calls[0]!.answer();
  await first;
  await microtasks();
  expect(store.batches).toEqual([["first"], ["a", "b", "c"]]);
  store.calls[1]!.answer();
  await Promise.all(others);
});

test("a crowd gets a second statement at once, and never a third", async () => {
  const store = new HeldStore();
  const batch = new EnqueueBatch(store.port, 7);
  const all: Promise<void>[] = [batch.add(task("first"))];
  await microtasks();
  for (const id of ids(20)) all.push(batch.add(task(id)));
  await microtasks();
  for (const id of ids(40, 100)) all.push(batch.add(task(id)));
  await microtasks();
  expect(store.batches).toEqual([["first"], ids(20)]);
  store.calls[0]!.answer();
  await microtasks();
  expect(store.batches).toEqual([["first"], ids(20), ids(40, 100)]);
  store.calls[1]!.answer();
  store.calls[2]!.answer();
  await Promise.all(all);
});

test("more than a thousand are split, none twice and none left out", async () => {
  const store = new HeldStore();
  const batch = new EnqueueBatch(store.port, 7);
  const all = Promise.all(ids(2500).map((id) => batch.add(task(id))));
  for (let at = 0; at < 3; at++) {
    await microtasks();
    store.calls[at]!.answer();
  }
  await all;
  expect(store.batches.map((each) => each.length)).toEqual([1000, 1000, 500]);
  expect(store.batches.flat()).toEqual(ids(2500));
});

test("a failed statement fails those it held, and the next goes on", async () => {
  const store = new HeldStore();
  const batch = new EnqueueBatch(store.port, 7);
  const failed = Promise.allSettled(ids(2).map((id) => batch.add(task(id))));
  await microtasks();
  const fine = batch.add(task("later"));
  store.calls[0]!.answer(new Error("no connection"));
  expect((await failed).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  await microtasks();
  expect(store.batches.at(-1)).toEqual(["later"]);
  store.calls[1]!.answer();
  await fine;
});
