/**
 * Who may import whom. A package is layered as `base → pure → port → engine`, stores beside the engines: they implement
 * ports, and only the entry points and the composition root know both. Imports run towards `base`, never in a circle.
 */
import type { SourceFile } from "./source.ts";
import { isGenerated, isProductionSource, isTestFile, type Violation } from "./tree.ts";

/** One layer of a package: which files are in it, and which layers they may import (always also their own). */
interface Layer {
  readonly name: string;
  readonly files: RegExp;
  readonly may: readonly string[];
}

/** The layers of each package; the first pattern that matches a path below `src/` decides. */
export const layers: Readonly<Record<string, readonly Layer[]>> = {
  core: [
    {
      name: "entry",
      files: /^[^/]+$/,
      may: [
        "base",
        "pure",
        "port",
        "engine",
        "policies",
        "store",
        "distant store",
        "distribution",
        "testing",
      ],
    },
    { name: "base", files: /^base\//, may: [] },
    {
      name: "engine",
      files: /^feedback\/(observe|limited-fetch|adaptive)\.ts$/,
      may: ["base", "pure", "port"],
    },
    { name: "pure", files: /^(limit\/algorithms|feedback)\//, may: ["base"] },
    { name: "port", files: /^limit\/(store|decision)\.ts$/, may: ["base", "pure"] },
    { name: "engine", files: /^limit\//, may: ["base", "pure", "port"] },
    // What runs a function on terms; it knows limits by their shape only.
    { name: "policies", files: /^policies\//, may: ["base", "pure", "port"] },
    { name: "store", files: /^stores\/memory\//, may: ["base", "pure", "port"] },
    { name: "distant store", files: /^stores\//, may: ["base", "pure", "port"] },
    // Stores made of a store; while the one they guard is away, they count in memory.
    { name: "distribution", files: /^distribution\//, may: ["base", "pure", "port", "policies", "store"] },
    { name: "testing", files: /^testing\//, may: ["base", "pure", "port", "engine", "store"] },
  ],
  http: [
    { name: "entry", files: /^[^/]+$/, may: ["base", "pure", "port", "engine", "store", "testing"] },
    { name: "pure", files: /^(codec|keys)\//, may: ["base"] },
    { name: "engine", files: /^door\//, may: ["base", "pure"] },
    { name: "store", files: /^(middleware|adapters)\//, may: ["base", "pure", "engine"] },
  ],
  queue: [
    { name: "entry", files: /^[^/]+$/, may: ["base", "pure", "port", "engine", "store", "testing"] },
    { name: "base", files: /^base\//, may: [] },
    { name: "pure", files: /^(task|lane|schedule)\//, may: ["base"] },
    { name: "port", files: /^store\/(database|task-store)\.ts$/, may: ["base", "pure"] },
    { name: "store", files: /^store\//, may: ["base", "pure", "port"] },
    { name: "engine", files: /^(worker|maintenance|step|queue|client)\//, may: ["base", "pure", "port"] },
    { name: "testing", files: /^testing\//, may: ["base", "pure", "port", "engine", "store"] },
  ],
};

/** The packages each package may import, by name; everything else comes from a registry or from Node. */
export const packageImports: Readonly<Record<string, readonly string[]>> = {
  core: [],
  queue: ["@sluice/core"],
  http: ["@sluice/core"],
  server: ["@sluice/core", "@sluice/queue", "@sluice/example-provider-sync"],
};

interface Place {
  readonly package: string;
  readonly inner: string;
}

function placeOf(path: string): Place | undefined {
  const match = /^packages\/([^/]+)\/src\/(.+)$/.exec(path);
  return match ? { package: match[1]!, inner: match[2]! } : undefined;
}

function layerOf(place: Place): Layer | undefined {
  return layers[place.package]?.find((layer) => layer.files.test(place.inner));
}

/** The repository path that a relative import leads to. */
export function resolveImport(from: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const parts = from.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** Imports between layers run downwards, and every file of a layered package is in a layer. */
export function layerBreaches(files: readonly SourceFile[]): Violation[] {
  return files
    .filter((file) => isProductionSource(file.path))
    .flatMap((file) => {
      const place = placeOf(file.path)!;
      const layer = layerOf(place);
      if (layers[place.package] === undefined) return [];
      if (!layer)
        return [
          {
            path: file.path,
            line: 0,
            message: "is in no layer: say in tools/tidy/layers.ts which it belongs to",
          },
        ];
      return file.imports.flatMap(({ specifier, line }) => {
        const target = placeOf(resolveImport(file.path, specifier) ?? "");
        const below = target && target.package === place.package ? layerOf(target) : undefined;
        if (!below || below.name === layer.name || layer.may.includes(below.name)) return [];
        return [
          { path: file.path, line, message: `${layer.name} must not import ${below.name} (${specifier})` },
        ];
      });
    });
}

/** Packages are imported by name and only as listed; never by path, and core imports nothing but itself. */
export function packageBreaches(files: readonly SourceFile[]): Violation[] {
  return files.flatMap((file) => {
    const owner = /^(?:packages|examples)\/([^/]+)\//.exec(file.path);
    return file.imports.flatMap(({ specifier, line }) => {
      const message = packageBreach(file.path, owner?.[1], specifier);
      return message === undefined ? [] : [{ path: file.path, line, message }];
    });
  });
}

function packageBreach(path: string, owner: string | undefined, specifier: string): string | undefined {
  const target = resolveImport(path, specifier);
  if (target !== undefined) {
    const entered = /^packages\/([^/]+)\//.exec(target)?.[1];
    if (entered !== undefined && entered !== owner)
      return `enters packages/${entered} by path (${specifier}): import it by name`;
    return undefined;
  }
  const allowed = isProductionSource(path) ? packageImports[owner ?? ""] : undefined;
  if (allowed === undefined) return undefined;
  if (owner === "core" && !specifier.startsWith("node:"))
    return `core has no dependencies, but this imports ${specifier}`;
  const ours = /^(@sluice\/[^/]+|sluice$)/.exec(specifier)?.[0];
  return ours !== undefined && !allowed.includes(ours) ? `${owner} must not import ${specifier}` : undefined;
}

/** What users install never imports tests or the testing entry point. */
export function testImports(files: readonly SourceFile[]): Violation[] {
  return files
    .filter((file) => isProductionSource(file.path) && !/\/src\/testing(\/|\.ts$)/.test(file.path))
    .flatMap((file) =>
      file.imports.flatMap(({ specifier, line }) => {
        const target = resolveImport(file.path, specifier) ?? specifier;
        const forbidden = /\/test\/|\.test\.|\/testing(\/|\.ts$|$)|^vitest|^fast-check/.test(target);
        return forbidden ? [{ path: file.path, line, message: `production code imports ${specifier}` }] : [];
      }),
    );
}

/** Entry points only re-export, and nothing inside imports an entry point. */
export function entryPoints(files: readonly SourceFile[], entries: ReadonlySet<string>): Violation[] {
  return files
    .filter(({ path }) => isProductionSource(path))
    .flatMap((file) => {
      const own = entries.has(file.path)
        ? file.ownStatements.map((line) => ({
            path: file.path,
            line,
            message: "an entry point only re-exports",
          }))
        : [];
      const inward = file.imports.flatMap(({ specifier, line }) => {
        const target = resolveImport(file.path, specifier);
        if (target === undefined || !entries.has(target) || entries.has(file.path)) return [];
        return [
          {
            path: file.path,
            line,
            message: `imports the entry point ${target}: import the module that owns it`,
          },
        ];
      });
      return [...own, ...inward];
    });
}

/** Import cycles, type imports included: each is reported once, as the circle of its files. */
export function importCycles(files: readonly SourceFile[]): Violation[] {
  const known = new Map(files.filter(({ path }) => !isGenerated(path)).map((file) => [file.path, file]));
  const state = new Map<string, "open" | "done">();
  const found: Violation[] = [];
  const follow = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === "done") return;
    if (state.get(path) === "open") {
      const circle = [...trail.slice(trail.indexOf(path)), path];
      found.push({ path, line: 0, message: `import cycle: ${circle.join(" -> ")}` });
      return;
    }
    state.set(path, "open");
    for (const { specifier } of known.get(path)!.imports) {
      const target = resolveImport(path, specifier);
      if (target !== undefined && known.has(target)) follow(target, [...trail, path]);
    }
    state.set(path, "done");
  };
  for (const path of known.keys()) follow(path, []);
  return found;
}

/**
 * Time and chance come in from outside, so that a test can hold them; only the clock may ask the machine. To hand
 * `Math.random` on as somebody's chance is the injection itself, and fine.
 */
export function ambientTime(
  files: readonly SourceFile[],
  allowed: Readonly<Record<string, string>>,
): Violation[] {
  const ambient =
    /^(Date\.now|performance\.now|process\.hrtime(\.bigint)?|Math\.random|setTimeout|setInterval)$/;
  const timeless = ["base", "pure", "port", "engine", "policies", "distribution"];
  return files
    .filter(({ path }) => isProductionSource(path) && !isTestFile(path) && !(path in allowed))
    .flatMap((file) => {
      const layer = layerOf(placeOf(file.path)!);
      if (!layer || !timeless.includes(layer.name)) return [];
      return file.uses
        .filter(({ name, called }) => called && ambient.test(name))
        .map(({ name, line }) => ({
          path: file.path,
          line,
          message: `${name}: use the injected clock (or take it as an argument)`,
        }));
    });
}
