import { expect, test } from "vitest";
import { slotOf } from "./slot.ts";

test.each([
  // From the cluster's specification, and from CLUSTER KEYSLOT.
  ["123456789", 12_739],
  ["foo", 12_182],
  ["{foo}.bar", 12_182],
  ["a{foo}{bar}", 12_182],
  ["{}foo", 9_500],
  ["", 0],
])("the slot of %j is %i", (key, slot) => {
  expect(slotOf(key)).toBe(slot);
});
