import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { isEnded, taskTransitions } from "./state.ts";

const page = join(import.meta.dirname, "..", "..", "..", "..", "docs", "task-lifecycle.md");

/** The edges that the page's state diagram draws: `waiting --> running : claimed`. */
function drawnEdges(markdown: string): string[] {
  const diagram = /```mermaid\s+stateDiagram-v2\n(.*?)```/s.exec(markdown)?.[1] ?? "";
  return [...diagram.matchAll(/^\s*(\w+)\s*-->\s*(\w+)/gm)].map(([, from, to]) => `${from} --> ${to}`);
}

const edges = Object.entries(taskTransitions).flatMap(([from, targets]) =>
  targets.map((to) => `${from} --> ${to}`),
);

describe("the states of a task", () => {
  test("the page draws the table: every edge of one is an edge of the other", ({ skip }) => {
    skip(!existsSync(page), "docs/task-lifecycle.md is not written yet");
    expect([...new Set(drawnEdges(readFileSync(page, "utf8")))].sort()).toEqual([...edges].sort());
  });

  test("the reader of the page finds edges", () => {
    const example =
      "x\n```mermaid\nstateDiagram-v2\n  [*] --> waiting\n  waiting --> running : claimed\n```\n";
    expect(drawnEdges(example)).toEqual(["waiting --> running"]);
  });

  test("every edge leads to a state of the table", () => {
    for (const targets of Object.values(taskTransitions)) {
      for (const to of targets) expect(Object.keys(taskTransitions)).toContain(to);
    }
  });

  test("every state leads to an end, and success is final", () => {
    expect(taskTransitions.succeeded).toEqual([]);
    for (const state of Object.keys(taskTransitions) as (keyof typeof taskTransitions)[]) {
      const reached = new Set<string>([state]);
      for (const each of reached) for (const to of taskTransitions[each as typeof state]) reached.add(to);
      expect(reached.has("succeeded")).toBe(true);
    }
  });

  test("only a person brings a task back from its end", () => {
    const ended = (Object.keys(taskTransitions) as (keyof typeof taskTransitions)[]).filter(isEnded);
    expect(ended).toEqual(["succeeded", "dead", "cancelled"]);
    expect(ended.map((state) => taskTransitions[state])).toEqual([[], ["waiting"], ["waiting"]]);
  });
});
