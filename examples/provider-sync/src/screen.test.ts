import { expect, it } from "vitest";
import { Screen } from "./screen.ts";

function screenOn(
  isTTY: boolean,
  environment: Record<string, string> = {},
): { screen: Screen; text: () => string } {
  const written: string[] = [];
  const screen = new Screen({ isTTY, write: (text) => written.push(text) }, environment);
  return { screen, text: () => written.join("") };
}

it("writes plain lines and nothing else where there is no terminal", () => {
  const { screen, text } = screenOn(false);
  screen.showStatus("a bar");
  screen.print("one", screen.paint("red", "two"));
  expect(text()).toBe("one\ntwo\n");
});

it("keeps the status below the lines on a terminal and takes it away at the end", () => {
  const { screen, text } = screenOn(true);
  screen.showStatus("", "bar");
  screen.print("one");
  screen.showStatus();
  const erase = "\u001b[2F\u001b[J";
  expect(text()).toBe(`\nbar\n${erase}one\n\nbar\n${erase}`);
});

it("has no colours with NO_COLOR and no status on a dumb terminal", () => {
  expect(screenOn(true).screen.paint("red", "x")).toBe("\u001b[31mx\u001b[39m");
  expect(screenOn(true, { NO_COLOR: "1" }).screen.paint("red", "x")).toBe("x");
  expect(screenOn(true, { TERM: "dumb" }).screen.live).toBe(false);
});
