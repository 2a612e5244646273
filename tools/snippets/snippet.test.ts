import { expect, test } from "vitest";
import { misfencedBlocks, readSnippets } from "./snippet.ts";
import { Workshop } from "./workshop.ts";

const fence = "```";

/** A document of these lines; `~~~` stands for a fence. */
function page(...lines: string[]): { path: string; text: string } {
  return { path: "docs/page.md", text: lines.join("\n").replaceAll("~~~", fence) };
}

test("reads blocks with their hidden lines, reasons and output", () => {
  const snippets = readSnippets(
    page(
      "Text",
      "<!-- ts",
      "const a = 1;",
      "-->",
      "~~~ts",
      "console.log(a);",
      "~~~",
      "~~~text output",
      "1",
      "~~~",
      "~~~js",
      "not(ours)",
      "~~~",
      "~~~ts no-run: needs your server",
      "go();",
      "~~~",
    ),
  );
  expect(snippets).toEqual([
    {
      path: "docs/page.md",
      line: 5,
      code: "const a = 1;\nconsole.log(a);",
      lines: [3, 6],
      noRun: undefined,
      output: "1",
    },
    {
      path: "docs/page.md",
      line: 14,
      code: "go();",
      lines: [15],
      noRun: "needs your server",
      output: undefined,
    },
  ]);
});

test.each([
  ["a reason is missing", page("~~~ts no-run", "~~~"), "ts no-run"],
  ["the language has another name", page("~~~typescript", "~~~"), "typescript"],
  ["hidden lines lead to nothing", page("<!-- ts", "-->", "", "~~~ts", "~~~"), "hidden lines"],
  ["output of nothing", page("~~~text output", "1", "~~~"), "no block that prints"],
])("refuses a block when %s", (_, file, because) => {
  expect(misfencedBlocks([file]).map(({ message }) => message)).toEqual([expect.stringContaining(because)]);
});

test("passes over no block of a fine document, and over other documents", () => {
  expect(misfencedBlocks([page("~~~ts", "~~~", "~~~text output", "~~~", "~~~sh", "~~~")])).toEqual([]);
  expect(misfencedBlocks([{ ...page("~~~tsx", "~~~"), path: "bench/README.md" }])).toEqual([]);
});

test("what does not compile is told at its line, and what does is not", { timeout: 120_000 }, async () => {
  const snippets = readSnippets(
    page(
      "<!-- ts",
      'import { limit } from "@sluice/core";',
      "-->",
      "~~~ts",
      'const github = limit("github", "5000/h");',
      "github.tryAquire();",
      "~~~",
      "~~~ts",
      'import { limit } from "@sluice/core";',
      'const decision = limit("github", "5000/h").tryAcquire();',
      "const yes: boolean = decision.allowed;",
      "await yes;",
      "~~~",
    ),
  );
  using workshop = new Workshop(snippets);
  const [error, ...others] = await workshop.compile();
  expect(error).toMatchObject({
    path: "docs/page.md",
    line: 6,
    message: expect.stringContaining("tryAquire"),
  });
  expect(others).toEqual([]);
});

test.each([
  ["throws", 'throw new Error("oh");', "oh"],
  ["rejects unheard", 'void Promise.reject(new Error("unheard"));', "unheard"],
  ["never comes to its end", "await new Promise(() => {});", "ended with 13"],
])("what %s fails", { timeout: 30_000 }, async (_, code, because) => {
  const [snippet] = readSnippets(page("~~~ts", code, "~~~"));
  using workshop = new Workshop([snippet!]);
  const result = await workshop.run(snippet!, {});
  expect(result).toEqual({ ok: false, text: expect.stringContaining(because) });
});

test("what prints something else than the document says fails", { timeout: 30_000 }, async () => {
  const [right, wrong] = readSnippets(
    page(
      "~~~ts",
      "console.log(process.env.WORD);",
      "~~~",
      "~~~text output",
      "hello",
      "~~~",
      "~~~ts",
      "console.log(1);",
      "~~~",
      "~~~text output",
      "2",
      "~~~",
    ),
  );
  using workshop = new Workshop([right!, wrong!]);
  expect(await workshop.run(right!, { WORD: "hello" })).toEqual({ ok: true, text: "hello\n" });
  expect(await workshop.run(wrong!, {})).toMatchObject({
    ok: false,
    text: expect.stringContaining("document says"),
  });
});

test("servers left open do not keep it from ending", { timeout: 30_000 }, async () => {
  const [snippet] = readSnippets(
    page("~~~ts", 'import { createServer } from "node:http";', "createServer().listen(0);", "~~~"),
  );
  using workshop = new Workshop([snippet!]);
  expect(await workshop.run(snippet!, {})).toEqual({ ok: true, text: "" });
});
