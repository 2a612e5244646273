/** Links between the documents of the repository. */
import type { TextFile, Violation } from "./tree.ts";

/** Relative links in Markdown lead to a file or folder that is there. */
export function brokenLinks(files: readonly TextFile[]): Violation[] {
  const there = new Set(files.flatMap(({ path }) => [path, ...foldersOf(path)]));
  return files
    .filter(({ path }) => path.endsWith(".md"))
    .flatMap(({ path, text }) =>
      text.split("\n").flatMap((line, index) =>
        [...line.matchAll(/\]\(([^)\s]+)\)/g)]
          .map((match) => match[1]!)
          .filter((target) => !/^([a-z]+:|#)/.test(target) && !there.has(resolve(path, target)))
          .map((target) => ({ path, line: index + 1, message: `links to ${target}, which is not there` })),
      ),
    );
}

/** Every document below docs/ can be reached from its index. */
export function unlistedDocuments(files: readonly TextFile[]): Violation[] {
  const index = files.find(({ path }) => path === "docs/README.md")?.text ?? "";
  const listed = new Set(
    [...index.matchAll(/\]\(([^)\s#]+)/g)].map((match) => resolve("docs/README.md", match[1]!)),
  );
  return files
    .filter(({ path }) => /^docs\/.*\.md$/.test(path) && path !== "docs/README.md" && !listed.has(path))
    .map(({ path }) => ({ path, line: 0, message: "is not listed in docs/README.md" }));
}

function foldersOf(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
}

function resolve(from: string, target: string): string {
  return decodeURI(new URL(target, `file:///${from}`).pathname).replace(/^\/|\/$/g, "");
}
