/**
 * The TypeScript of the documents. Each block fenced as `ts` is a program of its own: it is compiled, and run in a process
 * of its own. Around it a document may say:
 *
 *     ```ts no-run: needs your server      only compiled, and why
 *     <!-- ts … -->                        before the block: lines that readers need not see, and the program begins with
 *     ```text output                       after the block: what it prints, to the letter
 *
 * Code of other people's libraries is fenced as `js`, and is not looked at.
 */
import { isDeepStrictEqual } from "node:util";
import type { TextFile, Violation } from "../tidy/tree.ts";

/** One program of a document. */
export interface Snippet {
  /** The document. */
  readonly path: string;
  /** The line of its fence, from 1. */
  readonly line: number;
  /** The whole program: the hidden lines and those of the block. */
  readonly code: string;
  /** The line of the document that each line of the program is from. */
  readonly lines: readonly number[];
  /** Why it is only compiled; undefined when it is run. */
  readonly noRun: string | undefined;
  /** What it prints; undefined when the document does not say. */
  readonly output: string | undefined;
}

/** The documents whose blocks are looked at. */
export function isDocument(path: string): boolean {
  return /^(README\.md|packages\/[^/]+\/README\.md|docs\/.*\.md)$/.test(path);
}

/** A block of a document: a fence, or a comment that begins with `ts`. */
interface Block {
  readonly info: string;
  /** The line it begins at, from 1. */
  readonly line: number;
  /** The line after its end. */
  readonly endLine: number;
  readonly body: readonly string[];
}

/** The programs of a document, in their order. */
export function readSnippets({ path, text }: TextFile): Snippet[] {
  const blocks = readBlocks(text);
  return blocks.flatMap((block, index) => {
    const fence = fenceOf(block.info);
    if (fence === undefined) return [];
    const hidden = blocks[index - 1];
    const setup = hidden?.info === hiddenInfo && hidden.endLine === block.line ? hidden : undefined;
    const next = blocks[index + 1];
    const output = next?.info === outputInfo ? next.body.join("\n") : undefined;
    const parts = setup === undefined ? [block] : [setup, block];
    return [
      {
        path,
        line: block.line,
        code: parts.flatMap(({ body }) => body).join("\n"),
        lines: parts.flatMap(({ line, body }) => body.map((_, i) => line + 1 + i)),
        noRun: fence.noRun,
        output,
      },
    ];
  });
}

/** Fences and comments that would be passed over without a word. */
export function misfencedBlocks(files: readonly TextFile[]): Violation[] {
  return files
    .filter(({ path }) => isDocument(path))
    .flatMap(({ path, text }) => {
      const blocks = readBlocks(text);
      const snippets = readSnippets({ path, text });
      return blocks.flatMap(({ info, line, endLine }, index) => {
        const say = (message: string): Violation[] => [{ path, line, message }];
        if (info === hiddenInfo) {
          const next = blocks[index + 1];
          const leads = next?.line === endLine && fenceOf(next.info) !== undefined;
          return leads ? [] : say("hidden lines belong directly before a block of TypeScript");
        }
        if (info === outputInfo) {
          const isRun = snippets.some(
            (snippet) => snippet.line === blocks[index - 1]?.line && !snippet.noRun,
          );
          return isRun ? [] : say("there is no block that prints this");
        }
        const isOurs = /^(ts|tsx|mts|typescript)\b/.test(info);
        return isOurs && fenceOf(info) === undefined
          ? say(`\`\`\`${info}: say \`ts\`, or \`ts no-run: why\``)
          : [];
      });
    });
}

const hiddenInfo = "<!-- ts";
const outputInfo = "text output";

function fenceOf(info: string): { readonly noRun: string | undefined } | undefined {
  const match = /^ts(?: no-run: (?<why>\S.*))?$/.exec(info);
  return match === null ? undefined : { noRun: match.groups?.["why"] };
}

function readBlocks(text: string): Block[] {
  const lines = text.split("\n");
  const blocks: Block[] = [];
  for (let i = 0; i < lines.length; i++) {
    const opening = /^(?<fence>`{3,})\s*(?<info>[^`]*)$/.exec(lines[i]!);
    const isHidden = lines[i] === hiddenInfo;
    if (opening === null && !isHidden) continue;
    const closing = isHidden ? "-->" : opening!.groups!["fence"]!;
    const end = lines.findIndex((line, at) => at > i && line.trimEnd() === closing);
    const body = lines.slice(i + 1, end < 0 ? lines.length : end);
    const info = isHidden ? hiddenInfo : opening!.groups!["info"]!.trim();
    blocks.push({ info, line: i + 1, endLine: i + body.length + 3, body });
    i += body.length + 1;
  }
  return blocks;
}

/** Whether a program printed what the document says: to the letter, but for white space at the ends of lines. */
export function printedAsSaid(snippet: Snippet, printed: string): boolean {
  if (snippet.output === undefined) return true;
  const linesOf = (text: string): string[] =>
    text
      .trimEnd()
      .split("\n")
      .map((line) => line.trimEnd());
  return isDeepStrictEqual(linesOf(printed), linesOf(snippet.output));
}
