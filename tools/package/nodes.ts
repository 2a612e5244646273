/** The Nodes that the built packages must run on: the oldest that is supported, the one of whoever runs the tests, the newest. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

/** What npm calls the binary of this machine; undefined where there is none that needs no install script. */
const binaryPackage =
  process.platform === "linux" && ["x64", "arm64"].includes(process.arch)
    ? `node-linux-${process.arch}`
    : undefined;
const versions = ["20.19.0", "22.23.3", "24.21.0"];

/** The program of a version, fetched once into `.cache/`; throws when that is not possible. */
function fetched(root: string, version: string): string {
  const folder = join(root, ".cache", "nodes", version);
  const program = join(folder, "node_modules", `${binaryPackage}`, "bin", "node");
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true });
    const args = [
      "install",
      "--prefix",
      folder,
      "--no-save",
      "--loglevel=error",
      `${binaryPackage}@${version}`,
    ];
    execFileSync("npm", args, { stdio: "pipe", timeout: 120_000 });
  }
  return program;
}

/** One Node each version that can be had here, by name, and why others cannot. */
export function nodes(root: string): { readonly name: string; readonly program: string | Error }[] {
  const users = process.env["SLUICE_USER_NODE"] ?? process.execPath;
  const given = { name: `the Node at hand`, program: users };
  if (binaryPackage === undefined) return [given];
  const others = versions.map((version) => {
    try {
      return { name: `Node ${version}`, program: fetched(root, version) };
    } catch (error) {
      return { name: `Node ${version}`, program: error as Error };
    }
  });
  return [given, ...others];
}
