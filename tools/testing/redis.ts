/** Redis for a test file: the run's server, and a key prefix that no other file and no earlier run has used. */
import { randomBytes } from "node:crypto";
import { beforeEach, inject } from "vitest";

/** What a test file needs to use Redis. */
export interface TestRedis {
  /** Empty where there is no Redis; then every test is skipped. */
  readonly url: string;
  /** Begins the keys of this file alone. */
  readonly prefix: string;
}

/** Gives a test file (or a describe block) a prefix of its own; call it at its top level. Without a Redis its tests are skipped, aloud. */
export function freshRedis(label: string): TestRedis {
  const { url = "" } = inject("redis");
  requireRedis();
  return { url, prefix: `t:${label}:${randomBytes(4).toString("hex")}` };
}

/** Skips the tests of a file (or a describe block) that starts servers of its own where there is no program to start. */
export function requireRedis(): void {
  const { missing } = inject("redis");
  beforeEach(({ skip }) => {
    if (missing !== undefined) skip(missing);
  });
}
