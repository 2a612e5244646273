/**
 * The suites of this repository, in the order in which they run: each is a set of test files that want the same
 * surroundings. A test file belongs to exactly one; tidy.test.ts fails for one that belongs to none.
 */

/** One suite. Patterns are globs relative to the root. */
export interface SuiteDefinition {
  readonly name: string;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** Whether the suite gets a PostgreSQL server (TEST_DATABASE_URL, or one started for the run). */
  readonly database: boolean;
  /** Whether the suite gets a Redis or Valkey server (TEST_REDIS_URL, or one started for the run); default no. */
  readonly redis?: boolean;
  /** How many files run at the same time. */
  readonly workers: number;
  /** How long one test may take, unless it says otherwise. */
  readonly testLimitMs: number;
}

const apart = ["**/node_modules/**", "**/dist/**"];
const ownFolders = [
  "packages/*/test/property/**",
  "packages/*/test/conformance/**",
  "packages/*/test/redis/**",
  "tools/servers/redis*.test.ts",
];

/** All suites. The crash run is last and alone: it wants both cores, and it is the longest. */
export const suites: readonly SuiteDefinition[] = [
  {
    name: "tidy",
    include: ["tidy.test.ts"],
    exclude: apart,
    database: false,
    workers: 1,
    testLimitMs: 30_000,
  },
  {
    name: "unit",
    include: [
      "packages/*/src/**/*.test.ts",
      "examples/*/src/**/*.test.ts",
      "tools/**/*.test.ts",
      "bench/**/*.test.ts",
    ],
    exclude: [...apart, "tools/servers/**", "tools/package/**", "tools/crash-run/**"],
    database: false,
    workers: 2,
    testLimitMs: 10_000,
  },
  {
    name: "property",
    include: ["packages/*/test/property/**/*.test.ts"],
    exclude: apart,
    database: false,
    workers: 2,
    testLimitMs: 60_000,
  },
  {
    name: "conformance",
    include: ["packages/*/test/conformance/**/*.test.ts"],
    exclude: apart,
    database: true,
    redis: true,
    workers: 2,
    testLimitMs: 60_000,
  },
  {
    name: "integration",
    include: [
      "packages/*/test/**/*.test.ts",
      "examples/*/test/**/*.test.ts",
      "tools/servers/**/*.test.ts",
      "tools/package/**/*.test.ts",
    ],
    exclude: [...apart, ...ownFolders],
    database: true,
    workers: 2,
    testLimitMs: 90_000,
  },
  {
    name: "redis",
    include: ["packages/*/test/redis/**/*.test.ts", "tools/servers/redis*.test.ts"],
    exclude: apart,
    database: false,
    redis: true,
    workers: 1,
    testLimitMs: 120_000,
  },
  {
    name: "crash",
    include: ["tools/crash-run/**/*.test.ts"],
    exclude: apart,
    database: false,
    workers: 1,
    testLimitMs: 300_000,
  },
];
