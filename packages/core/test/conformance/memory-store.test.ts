import { memory } from "@sluice/core";
import { storeConformance } from "@sluice/core/testing";
import { describe, test } from "vitest";

describe("the memory store", () => {
  for (const { name, run } of storeConformance((clock) => memory({ clock }))) test(name, run);
});
