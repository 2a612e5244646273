/** What users get: the built packages, on the Node of whoever runs the tests (20.19 is the oldest), as npm would pack them. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly exports?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly bin?: Readonly<Record<string, string>>;
}

const root = join(import.meta.dirname, "..", "..");
const node = process.env["SLUICE_USER_NODE"] ?? process.execPath;
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

  test(`can be imported, and required, on ${node}`, () => {
    const program = `import { createRequire } from "node:module";
      const imported = Object.keys(await import("${specifier}")).sort();
      const required = Object.keys(createRequire(process.cwd() + "/")("${specifier}")).sort();
      console.log(JSON.stringify({ imported, required }));`;
    const { imported, required } = JSON.parse(run(node, ["--input-type=module", "-e", program]));
    expect(imported.length).toBeGreaterThan(0);
    expect(required).toEqual(imported);
  });
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

  test("has the version of all packages", () => {
    expect(packages.map((other) => other.manifest.version)).toEqual(packages.map(() => manifest.version));
  });
});
