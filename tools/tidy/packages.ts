/** What the packages depend on: exact versions, nothing that must run a script to be installed, and core on nothing. */
import type { TextFile, Violation } from "./tree.ts";

interface Manifest {
  readonly name?: string;
  readonly private?: boolean;
  readonly exports?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

interface LockedPackage extends Manifest {
  readonly link?: boolean;
  readonly resolved?: string;
  readonly hasInstallScript?: boolean;
}

const groups = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"] as const;

function manifests(files: readonly TextFile[]): { path: string; manifest: Manifest }[] {
  return files
    .filter(({ path }) => /(^|\/)package\.json$/.test(path))
    .map(({ path, text }) => ({ path, manifest: JSON.parse(text) as Manifest }));
}

/**
 * Every dependency is one exact version: what was tested is what is installed. An optional peer is the user's own, and a pin
 * would refuse it.
 */
export function loosePins(files: readonly TextFile[]): Violation[] {
  const exact = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/;
  return manifests(files).flatMap(({ path, manifest }) =>
    groups.flatMap((group) =>
      Object.entries(manifest[group] ?? {})
        .filter(([name, version]) => !exact.test(version) && !isOptionalPeer(manifest, group, name))
        .map(([name, version]) => ({
          path,
          line: 0,
          message: `${group}: ${name} is ${version}, not an exact version`,
        })),
    ),
  );
}

function isOptionalPeer(manifest: Manifest, group: (typeof groups)[number], name: string): boolean {
  return group === "peerDependencies" && manifest.peerDependenciesMeta?.[name]?.optional === true;
}

/** `@sluice/core` is installed alone. */
export function coreDependencies(files: readonly TextFile[]): Violation[] {
  return manifests(files)
    .filter(({ manifest }) => manifest.name === "@sluice/core")
    .flatMap(({ path, manifest }) =>
      groups
        .filter((group) => Object.keys(manifest[group] ?? {}).length > 0)
        .map((group) => ({ path, line: 0, message: `core has ${group}; it must have none` })),
    );
}

/**
 * Nothing that a published package brings along may need an install script: npm 12 does not run them, so the package
 * would be installed and broken. Walks the lockfile from `packages/*` through dependencies, optional ones and peers.
 */
export function installScripts(lockfile: TextFile): Violation[] {
  const locked = (JSON.parse(lockfile.text) as { packages: Record<string, LockedPackage> }).packages;
  const reached = new Map<string, string>();
  const waiting = Object.keys(locked)
    .filter((path) => /^packages\/[^/]+$/.test(path))
    .map((path) => ({ path, by: path }));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    if (reached.has(next.path)) continue;
    reached.set(next.path, next.by);
    const { dependencies, optionalDependencies, peerDependencies } = locked[next.path] ?? {};
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) {
      const path = locate(locked, next.path, name);
      if (path !== undefined) waiting.push({ path, by: `${next.by} > ${name}` });
    }
  }
  return [...reached]
    .filter(([path]) => locked[path]?.hasInstallScript)
    .map(([path, by]) => ({
      path: lockfile.path,
      line: 0,
      message: `${path} has an install script (through ${by})`,
    }));
}

/** Where Node would find `name` from `path`: the nearest node_modules upwards; a workspace link is followed. */
function locate(
  locked: Readonly<Record<string, LockedPackage>>,
  path: string,
  name: string,
): string | undefined {
  for (let base = path; ; base = base.replace(/(^|\/)[^/]*$/, "")) {
    const candidate = `${base === "" ? "" : `${base}/`}node_modules/${name}`;
    const entry = locked[candidate];
    if (entry) return entry.link ? entry.resolved : candidate;
    if (base === "") return undefined;
  }
}

/** The source files behind the `exports` of every package: its entry points. */
export function entryFiles(files: readonly TextFile[]): Set<string> {
  const entries = manifests(files).flatMap(({ path, manifest }) =>
    Object.values(manifest.exports ?? {}).flatMap((conditions) => {
      const source = conditions["@sluice/source"];
      return source === undefined ? [] : [path.replace("package.json", source.replace("./", ""))];
    }),
  );
  return new Set(entries);
}
