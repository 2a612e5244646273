import { expect, it } from "vitest";
import { StallWatch } from "./stall-watch.ts";

it("lists a pause longer than the threshold, from the last tick to the first after it", () => {
  let nowUs = 0;
  const watch = new StallWatch(() => nowUs, 5);
  for (nowUs of [2_000, 4_000, 10_999, 30_000, 32_000]) watch.tick();
  expect(watch.stalls).toEqual([{ fromUs: 10_999, untilUs: 30_000 }]);
  watch.reset();
  expect(watch.stalls).toEqual([]);
});
