/** What users get: the built packages, on the Node of whoever runs the tests (20.19 is the oldest), as npm would pack them. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { rolldown } from "rolldown";
import { describe, expect, test } from "vitest";
import { nodes } from "./nodes.ts";

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly exports?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly bin?: Readonly<Record<string, string>>;
}

const root = join(import.meta.dirname, "..", "..");
const packages = readdirSync(join(root, "packages")).map((folder) => {
  const path = join(root, "packages", folder);
  return { folder: path, manifest: JSON.parse(readFileSync(join(path, "package.json"), "utf8")) as Manifest };
});
const entries = packages.flatMap(({ folder, manifest }) =>
  Object.entries(manifest.exports ?? {}).map(([key, files]) => ({
    specifier: manifest.name + key.slice(1),
    files: Object.values(files).map((file) => join(folder, file)),
  })),
);

function run(command: string, args: readonly string[], cwd = root): string {
  const { NODE_OPTIONS: _, ...env } = process.env;
  return execFileSync(command, args, { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

describe.each(entries)("$specifier", ({ specifier, files }) => {
  test("has every file that its exports name (build first: npm run build)", () => {
    expect(files.filter((file) => !existsSync(file))).toEqual([]);
  });

  test.for(nodes(root))(
    "can be imported, and required where that is possible, on $name",
    ({ program: node }, { skip }) => {
      if (node instanceof Error) return skip(`there is no such Node here: ${node.message}`);
      const program = `import { createRequire } from "node:module";
      const imported = Object.keys(await import("${specifier}")).sort();
      const required = Object.keys(createRequire(process.cwd() + "/")("${specifier}")).sort();
      console.log(JSON.stringify({ imported, required }));`;
      const { imported, required } = JSON.parse(run(node, ["--input-type=module", "-e", program]));
      expect(imported.length).toBeGreaterThan(0);
      expect(required).toEqual(imported);
    },
  );
});

describe.each(packages)("$manifest.name", ({ folder, manifest }) => {
  test("is packed with its built files and its sources, without its tests", () => {
    const [packed] = JSON.parse(run("npm", ["pack", "--dry-run", "--json", "--loglevel=error"], folder));
    const paths = (packed.files as { path: string }[]).map(({ path }) => path);
    const named = [
      ...Object.values(manifest.exports ?? {}).flatMap((files) => Object.values(files)),
      ...Object.values(manifest.bin ?? {}),
    ];
    expect(named.map((file) => file.replace("./", "")).filter((file) => !paths.includes(file))).toEqual([]);
    expect(paths.filter((path) => /\.test\.|^test\/|tsbuildinfo/.test(path))).toEqual([]);
  });

  test("has types and entries that every resolver finds (attw, publint)", async () => {
    const into = mkdtempSync(join(tmpdir(), "sluice-pack-"));
    run("npm", ["pack", "--pack-destination", into, "--loglevel=error"], folder);
    const tarball = readFileSync(join(into, readdirSync(into)[0]!));
    rmSync(into, { recursive: true });
    // ESM only, as engines say: a CommonJS file that is type-checked as such cannot import it, which is a choice.
    const analysis = await checkPackage(createPackageFromTarballData(tarball));
    const problems = "problems" in analysis ? analysis.problems : [];
    expect(problems.filter(({ kind }) => kind !== "CJSResolvesToESM" && kind !== "NoResolution")).toEqual([]);
    const { messages, pkg } = await publint({ pkgDir: folder, level: "warning", strict: true });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  });

  test("has the version of all packages", () => {
    expect(packages.map((other) => other.manifest.version)).toEqual(packages.map(() => manifest.version));
  });
});

test("whoever imports limit alone gets at most 15 kB of it, compressed", async () => {
  const entry = "\0entry";
  const bundle = await rolldown({
    input: entry,
    platform: "neutral",
    plugins: [
      {
        name: "entry",
        resolveId: (id) => (id === entry ? id : undefined),
        load: (id) =>
          id === entry
            ? `export { limit } from ${JSON.stringify(join(root, "packages/core/dist/index.js"))}`
            : undefined,
      },
    ],
  });
  const { output } = await bundle.generate({ format: "esm", minify: true });
  const main = output.find((chunk) => chunk.type === "chunk" && chunk.isEntry);
  const sharedWith = output.filter(
    (chunk) => chunk.type === "chunk" && main?.type === "chunk" && main.imports.includes(chunk.fileName),
  );
  const code = [main, ...sharedWith].map((chunk) => (chunk?.type === "chunk" ? chunk.code : "")).join("");
  expect(gzipSync(code).length).toBeLessThanOrEqual(15_000);
});
