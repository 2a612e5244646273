import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Dot, type Scene, scenes, windowSums } from "./scene.ts";
import { draw } from "./svg.ts";

const folder = join(import.meta.dirname, "..", "..", "docs", "pictures");
const guide = readFileSync(join(folder, "..", "guides", "algorithms.md"), "utf8");
const drawn = scenes();

test("the pictures are what the library decides today", () => {
  for (const [name, scene] of Object.entries(drawn)) {
    const file = readFileSync(join(folder, `${name}.svg`), "utf8");
    expect(file, `draw it anew: node --conditions=@sluice/source tools/pictures/draw.ts`).toBe(draw(scene));
  }
});

test("each picture is in the guide, and the guide shows no other", () => {
  const files = readdirSync(folder).filter((file) => file.endsWith(".svg"));
  const shown = [...guide.matchAll(/src="\.\.\/pictures\/([^"]+)"/g)].map((match) => match[1]);
  expect(files.toSorted()).toEqual(
    Object.keys(drawn)
      .map((name) => `${name}.svg`)
      .toSorted(),
  );
  expect(shown.toSorted()).toEqual(files.toSorted());
});

test.each(Object.entries(drawn))("%s keeps its promise, and refuses somebody", (_, scene: Scene) => {
  expect(Math.max(...scene.steps.map(({ value }) => value))).toBeLessThanOrEqual(scene.bound);
  expect(scene.dots.some(({ allowed }) => !allowed)).toBe(true);
});

test("another decision makes another picture", () => {
  const scene = drawn["sliding-window"]!;
  const dots: Dot[] = scene.dots.map((dot, i) => (i === 0 ? { ...dot, allowed: false } : dot));
  expect(draw({ ...scene, dots })).not.toBe(draw(scene));
});

test("a sum is that of the window which ends at its instant, without its beginning", () => {
  const dots = [
    { atMs: 0, allowed: true },
    { atMs: 5_000, allowed: true },
    { atMs: 6_000, allowed: false },
  ];
  expect(windowSums(dots)).toEqual([
    { atMs: 0, value: 0 },
    { atMs: 0, value: 1 },
    { atMs: 5_000, value: 2 },
    { atMs: 10_000, value: 1 },
    { atMs: 15_000, value: 0 },
  ]);
});
