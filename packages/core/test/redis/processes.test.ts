/** Eight processes on one key: together they never exceed what one limit admits (RL1), and miss little of it. */
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { freshRedis } from "../../../../tools/testing/redis.ts";
import { fullestWindow } from "../property/histories.ts";
import { contended } from "./contended-limits.ts";

const { url, prefix } = freshRedis("processes");
const program = fileURLToPath(new URL("admit-process.ts", import.meta.url));
const forMs = 2_500;

interface Admission {
  readonly atUs: number;
  readonly cost: number;
}

async function fight(what: keyof typeof contended): Promise<Admission[]> {
  const told = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const args = ["--conditions=@sluice/source", program, url, prefix, what, String(forMs)];
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      return JSON.parse(await text(child.stdout)) as [number, number][];
    }),
  );
  for (const admissions of told) expect(admissions.length).toBeGreaterThan(0);
  return told
    .flat()
    .map(([atUs, cost]) => ({ atUs, cost }))
    .sort((a, b) => a.atUs - b.atUs);
}

describe("eight processes on one key", () => {
  test("never admit more than the limit in any window of a period, and use it", async () => {
    const admissions = await fight("window");
    const { rate } = contended.window.policy as { rate: { limit: number; periodUs: number } };
    expect(fullestWindow(admissions, rate.periodUs)).toBe(rate.limit);
  });

  test("never admit more than burst + rate over any span", async () => {
    const admissions = await fight("paced");
    const perUs = 40 / 200_000;
    let [sum, low] = [0, Number.POSITIVE_INFINITY];
    for (const { atUs, cost } of admissions) {
      // RL1b in one pass: S(j) − R·t(j) stays within the burst of the lowest S(i−1) − R·t(i) before it.
      low = Math.min(low, sum - perUs * atUs);
      sum += cost;
      expect(sum - perUs * (atUs + 1) - low).toBeLessThanOrEqual(2 + 1e-3);
    }
    // How much of it they use depends on how fast the machine lets them ask; that they fought for it is enough.
    expect(sum).toBeGreaterThan(100);
  });
});
