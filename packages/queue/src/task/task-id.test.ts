import fc from "fast-check";
import { expect, test } from "vitest";
import { isTaskId, newTaskId } from "./task-id.ts";

const version7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("ids are UUIDs of version 7 that carry the time of their making", () => {
  for (let i = 0; i < 2000; i++) {
    const before = Date.now();
    const id = newTaskId();
    expect(id).toMatch(version7);
    expect(isTaskId(id)).toBe(true);
    const time = Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
    expect(time).toBeGreaterThanOrEqual(before);
    expect(time).toBeLessThanOrEqual(Date.now());
  }
});

test("a hundred thousand ids are all different, and sort by the millisecond", () => {
  const ids = Array.from({ length: 100_000 }, newTaskId);
  expect(new Set(ids).size).toBe(ids.length);
  const times = ids.map((id) => id.slice(0, 13));
  expect(times).toEqual([...times].sort());
});

test("every bit that is left to chance is used", () => {
  const ids = Array.from({ length: 2000 }, () => BigInt(`0x${newTaskId().replaceAll("-", "")}`));
  const or = ids.reduce((all, id) => all | id, 0n);
  const and = ids.reduce((all, id) => all & id);
  const chance = (0xfffn << 64n) | 0x3fffffffffffffffn;
  expect(or & chance).toBe(chance);
  expect(and & chance).toBe(0n);
});

test("what is no id is told from one, without throwing", () => {
  const wrong = [
    "",
    "x",
    "../../etc/passwd",
    "'; drop table tasks; --",
    `${newTaskId()}0`,
    ` ${newTaskId()}`,
    `${newTaskId()}\n`,
  ];
  for (const text of wrong) expect(isTaskId(text)).toBe(false);
  fc.assert(fc.property(fc.anything(), (value) => !isTaskId(value) || typeof value === "string"));
});
