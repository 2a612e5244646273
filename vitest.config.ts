import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { type SuiteDefinition, suites } from "./tools/testing/suites.ts";

// Packages are tested from their TypeScript sources. vitest hands these conditions to Node as well, so the worker threads
// and forked processes of the code under test resolve the same files.
const conditions = ["@sluice/source", "node"];

function project(suite: SuiteDefinition, order: number): TestProjectInlineConfiguration {
  return {
    extends: true,
    test: {
      name: suite.name,
      include: [...suite.include],
      exclude: [...suite.exclude],
      globalSetup: [
        ...(suite.database ? ["tools/testing/database-setup.ts"] : []),
        ...(suite.redis ? ["tools/testing/redis-setup.ts"] : []),
      ],
      testTimeout: suite.testLimitMs,
      maxWorkers: suite.workers,
      sequence: { groupOrder: order },
    },
  };
}

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    pool: "forks",
    hookTimeout: 60_000,
    teardownTimeout: 60_000,
    reporters: ["default", "./tools/testing/suite-reporter.ts"],
    projects: suites.map((suite, index) => project(suite, index + 1)),
    coverage: { provider: "v8", include: ["packages/*/src/**/*.ts"], reporter: ["text-summary", "lcov"] },
  },
});
