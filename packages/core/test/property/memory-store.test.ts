import { memory } from "@sluice/core";
import { storeConformance } from "@sluice/core/testing";
import { describe, test } from "vitest";
import { runs } from "./histories.ts";

/** A case plays 700 steps. */
const seeds = Array.from({ length: Math.ceil(runs / 100) }, (_, i) => `seed ${i}`);

describe("the memory store agrees with the pure functions over random histories", () => {
  const names = storeConformance(() => memory())
    .map(({ name }) => name)
    .filter((name) => name.startsWith("agrees"));
  test.each(names)("%s", async (wanted) => {
    for (const seed of seeds) {
      const cases = storeConformance((clock) => memory({ clock }), { seed });
      await cases.find(({ name }) => name === wanted)!.run();
    }
  });
});
