import { expect, test } from "vitest";
import { SlotMap } from "./slot-map.ts";

test("holds what a Map holds, while it is one and when it is many", () => {
  const slots = new SlotMap();
  const model = new Map<string, number>();
  const keys = [
    "",
    "a",
    "ab",
    "🗝",
    ...Array.from({ length: 30_000 }, (_, i) => `user:${(i * 7919) % 20_000}`),
  ];
  for (const [i, key] of keys.entries()) {
    if (i % 3 === 2) {
      slots.delete(key);
      model.delete(key);
    } else {
      slots.set(key, i);
      model.set(key, i);
    }
  }
  expect(model.size).toBeGreaterThan(8_192);
  for (const key of keys) expect([slots.get(key), slots.has(key)]).toEqual([model.get(key), model.has(key)]);
  slots.clear();
  expect(keys.some((key) => slots.has(key))).toBe(false);
  slots.set("a", 1);
  expect(slots.get("a")).toBe(1);
});
