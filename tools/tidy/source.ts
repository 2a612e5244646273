/**
 * What the rules want to know of a TypeScript file, read from its syntax tree in one walk. TypeScript 7 has no compiler
 * API; the parser is the one vitest itself uses.
 */
import { parseSync } from "vite";
import type { TextFile } from "./tree.ts";

/** An import, export-from or dynamic import. */
export interface ImportFact {
  readonly specifier: string;
  readonly line: number;
}

/** A function, method or signature with parameters. */
export interface FunctionFact {
  readonly name: string;
  readonly line: number;
  /** First to last line, without what it hands to `describe` and `test`: those are counted by themselves. */
  readonly lines: number;
  readonly parameters: number;
}

/** A name at a line. */
export interface NameFact {
  readonly name: string;
  readonly line: number;
}

/** Something that is used: called, or only named (as when it is handed on). */
export interface UseFact extends NameFact {
  readonly called: boolean;
}

/** The facts of one file. */
export interface SourceFile extends TextFile {
  readonly imports: readonly ImportFact[];
  readonly functions: readonly FunctionFact[];
  readonly anys: readonly number[];
  /** Exported names and, for exported interfaces, classes and object types, their public members. */
  readonly publicNames: readonly NameFact[];
  /** Dotted calls and reads such as `Date.now`, `it.skip`, `Math.random`; bare calls such as `setTimeout`. */
  readonly uses: readonly UseFact[];
  /** Lines of top-level statements other than imports and re-exports. */
  readonly ownStatements: readonly number[];
}

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

interface Walk {
  readonly lineAt: (offset: number) => number;
  readonly imports: ImportFact[];
  readonly functions: FunctionFact[];
  readonly anys: number[];
  readonly uses: UseFact[];
}

/** Parses a file. Throws on a syntax error: a file no rule can read must not pass. */
export function parseSource(file: TextFile): SourceFile {
  const { program, errors } = parseSync(file.path, file.text);
  if (errors.length > 0) throw new Error(`${file.path}: ${errors[0]?.message}`);
  const lineAt = lineFinder(file.text);
  const walk: Walk = { lineAt, imports: [], functions: [], anys: [], uses: [] };
  const root = program as unknown as Node;
  visit(root, undefined, walk);
  const body = childrenOf(root);
  return {
    ...file,
    imports: walk.imports,
    functions: walk.functions,
    anys: walk.anys,
    uses: walk.uses,
    publicNames: body.flatMap((statement) => exportedNames(statement, lineAt)),
    ownStatements: body
      .filter((statement) => !isReExport(statement))
      .map((statement) => lineAt(statement.start)),
  };
}

function visit(node: Node, parent: Node | undefined, walk: Walk): void {
  noteImport(node, walk);
  if (node.type === "TSAnyKeyword") walk.anys.push(walk.lineAt(node.start));
  noteFunction(node, parent, walk);
  noteUse(node, parent, walk);
  for (const child of childrenOf(node)) visit(child, node, walk);
}

function childrenOf(node: Node): Node[] {
  const found: Node[] = [];
  for (const [key, value] of Object.entries(node)) {
    if (key === "parent") continue;
    for (const item of Array.isArray(value) ? value : [value]) if (isNode(item)) found.push(item);
  }
  return found;
}

function isNode(value: unknown): value is Node {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as Node).type === "string" &&
    typeof (value as Node).start === "number"
  );
}

function noteImport(node: Node, { imports, lineAt }: Walk): void {
  const importing = [
    "ImportDeclaration",
    "ExportAllDeclaration",
    "ExportNamedDeclaration",
    "ImportExpression",
    "TSImportType",
  ];
  if (!importing.includes(node.type)) return;
  const source = node["source"] ?? node["argument"];
  const specifier = isNode(source)
    ? (source["value"] ?? (source["literal"] as Node | undefined)?.["value"])
    : undefined;
  if (typeof specifier === "string") imports.push({ specifier, line: lineAt(node.start) });
}

const functionTypes = new Set([
  "FunctionDeclaration",
  "FunctionExpression",
  "ArrowFunctionExpression",
  "TSDeclareFunction",
  "TSEmptyBodyFunctionExpression",
  "TSMethodSignature",
  "TSFunctionType",
]);

function noteFunction(node: Node, parent: Node | undefined, { functions, lineAt }: Walk): void {
  if (!functionTypes.has(node.type) || isDescribed(node, parent)) return;
  const parameters = ((node["params"] ?? node["parameters"]) as Node[] | undefined) ?? [];
  const line = lineAt(node.start);
  functions.push({
    name:
      nameOf(node["id"]) ??
      nameOf(node["key"]) ??
      nameOf(parent?.["key"]) ??
      nameOf(parent?.["id"]) ??
      "(anonymous)",
    line,
    lines: lineAt(node.end) - line + 1 - linesOfTests(node, lineAt),
    parameters: parameters.filter((parameter) => nameOf(parameter) !== "this").length,
  });
}

/** Whether a function is the body of a `describe`: a chapter of a test file, not a function with something to follow. */
function isDescribed(node: Node, parent: Node | undefined): boolean {
  if (parent?.type !== "CallExpression" || parent["callee"] === node) return false;
  return /^describe\b/.test(dottedName(parent["callee"]) ?? "");
}

/** Lines of the callbacks that `node` hands to describe, test and it. */
function linesOfTests(node: Node, lineAt: Walk["lineAt"]): number {
  let lines = 0;
  for (const child of childrenOf(node)) {
    if (child.type === "CallExpression" && /^(describe|test|it)\b/.test(dottedName(child["callee"]) ?? "")) {
      for (const argument of child["arguments"] as Node[]) {
        if (functionTypes.has(argument.type)) lines += lineAt(argument.end) - lineAt(argument.start) + 1;
      }
    } else {
      lines += linesOfTests(child, lineAt);
    }
  }
  return lines;
}

function noteUse(node: Node, parent: Node | undefined, { uses, lineAt }: Walk): void {
  const inner = parent?.type === "MemberExpression" && parent["object"] === node;
  const member = node.type === "MemberExpression" && !inner;
  const name = member ? dottedName(node) : bareCall(node);
  const called = !member || (parent?.type === "CallExpression" && parent["callee"] === node);
  if (name !== undefined) uses.push({ name, line: lineAt(node.start), called });
}

function bareCall(node: Node): string | undefined {
  const callee = node["callee"];
  if (node.type !== "CallExpression" && node.type !== "NewExpression") return undefined;
  return isNode(callee) && callee.type === "Identifier" ? nameOf(callee) : undefined;
}

/** `a.b.c` of a member expression; a call in the middle (`it.each(rows).skip`) counts as what it is called on. */
function dottedName(value: unknown): string | undefined {
  if (!isNode(value)) return undefined;
  if (value.type === "CallExpression") return dottedName(value["callee"]);
  if (value.type === "TaggedTemplateExpression") return dottedName(value["tag"]);
  if (value.type !== "MemberExpression") return nameOf(value);
  const object = dottedName(value["object"]);
  return object === undefined ? undefined : `${object}.${nameOf(value["property"]) ?? "?"}`;
}

function nameOf(value: unknown): string | undefined {
  if (!isNode(value)) return undefined;
  if (value.type === "Identifier" || value.type === "PrivateIdentifier") return String(value["name"]);
  if (value.type === "Literal") return String(value["value"]);
  return undefined;
}

function isReExport(statement: Node): boolean {
  if (statement.type === "ImportDeclaration" || statement.type === "ExportAllDeclaration") return true;
  return statement.type === "ExportNamedDeclaration" && !isNode(statement["declaration"]);
}

function exportedNames(statement: Node, lineAt: Walk["lineAt"]): NameFact[] {
  if (!statement.type.startsWith("Export")) return [];
  const specifiers = ((statement["specifiers"] as Node[] | undefined) ?? []).map(
    (specifier) => specifier["exported"],
  );
  const declaration = statement["declaration"];
  const declared = isNode(declaration)
    ? [declaration, ...((declaration["declarations"] as Node[] | undefined) ?? [])]
    : [];
  const names = [...specifiers, ...declared.map((node) => node["id"])];
  const members = declared.flatMap(membersOf);
  return [...names, ...members].flatMap((node) => {
    const name = nameOf(node);
    return name === undefined || !isNode(node) ? [] : [{ name, line: lineAt(node.start) }];
  });
}

/** The keys of the public members of an exported interface, class or object type. */
function membersOf(declaration: Node): unknown[] {
  const holder = declaration["body"] ?? declaration["typeAnnotation"];
  if (!isNode(holder)) return [];
  const members = holder["body"] ?? holder["members"];
  if (!Array.isArray(members) || declaration.type === "FunctionDeclaration") return [];
  return members.filter((member) => member["accessibility"] !== "private").map((member) => member["key"]);
}

function lineFinder(text: string): (offset: number) => number {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  };
}
