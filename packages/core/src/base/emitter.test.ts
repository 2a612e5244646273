import { describe, expect, test } from "vitest";
import { Emitter } from "./emitter.ts";

interface Events {
  start: { taskId: string };
  stop: undefined;
}

describe("Emitter", () => {
  test("calls the listeners of an event in order, and tells whether there were any", () => {
    const events = new Emitter<Events>();
    const heard: string[] = [];
    expect(events.emit("start", { taskId: "t0" })).toBe(false);
    events.on("start", ({ taskId }) => heard.push(`a ${taskId}`));
    events.on("start", ({ taskId }) => heard.push(`b ${taskId}`));
    expect(events.emit("start", { taskId: "t1" })).toBe(true);
    expect(events.emit("stop", undefined)).toBe(false);
    expect(heard).toEqual(["a t1", "b t1"]);
  });

  test("removes one listener at a time, once", () => {
    const events = new Emitter<Events>();
    let calls = 0;
    const listener = (): void => void calls++;
    const stops = [events.on("stop", listener), events.on("stop", listener)];
    stops[0]!();
    stops[0]!();
    events.emit("stop", undefined);
    expect([calls, events.has("stop")]).toEqual([1, true]);
    stops[1]!();
    expect(events.has("stop")).toBe(false);
  });

  test("a listener added or removed during an emit counts from the next", () => {
    const events = new Emitter<Events>();
    const heard: string[] = [];
    const stop = events.on("stop", () => {
      heard.push("first");
      stop();
      events.on("stop", () => heard.push("late"));
    });
    events.emit("stop", undefined);
    expect(heard).toEqual(["first"]);
    events.emit("stop", undefined);
    expect(heard).toEqual(["first", "late"]);
  });

  test("a listener that throws stops neither the others nor the emitter", () => {
    const reported: string[] = [];
    const events = new Emitter<Events>((error, event) =>
      reported.push(`${event}: ${(error as Error).message}`),
    );
    let reached = false;
    events.on("stop", () => {
      throw new Error("mine");
    });
    events.on("stop", () => {
      reached = true;
    });
    expect(events.emit("stop", undefined)).toBe(true);
    expect([reached, reported]).toEqual([true, ["stop: mine"]]);
  });
});
