import {
  type ConcurrencyPolicy,
  type ConcurrencyState,
  concurrencyConsume,
  concurrencyPeek,
  concurrencyPolicy,
  concurrencyRelease,
  concurrencyRenew,
} from "@sluice/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epochUs, runs } from "./histories.ts";

type Action =
  | { readonly kind: "take"; readonly slots: number }
  | { readonly kind: "renew" | "release"; readonly which: number };

interface Scene {
  readonly policy: ConcurrencyPolicy;
  readonly actions: readonly (Action & { readonly afterUs: number })[];
}

const scenes: fc.Arbitrary<Scene> = fc
  .record({ capacity: fc.integer({ min: 1, max: 6 }), leaseMs: fc.integer({ min: 1, max: 50 }) })
  .chain(({ capacity, leaseMs }) => {
    const afterUs = fc.oneof(
      fc.constant(0),
      fc.nat(leaseMs * 400),
      fc.constantFrom(leaseMs * 1000, leaseMs * 1000 - 1),
    );
    const action = fc.oneof(
      fc.record({
        kind: fc.constant("take" as const),
        slots: fc.integer({ min: 1, max: capacity + 1 }),
        afterUs,
      }),
      fc.record({ kind: fc.constantFrom("renew" as const, "release" as const), which: fc.nat(20), afterUs }),
    );
    const policy = concurrencyPolicy(capacity, leaseMs * 1000);
    return fc.array(action, { minLength: 1, maxLength: 60 }).map((actions) => ({ policy, actions }));
  });

/** Every lease ever given, with what became of it: the model keeps them all and looks at each. */
interface Held {
  readonly fence: number;
  readonly slots: number;
  untilUs: number;
}

describe("concurrency", () => {
  test("answers what a naive model answers that keeps every lease ever given", () => {
    fc.assert(
      fc.property(scenes, ({ policy, actions }) => {
        let state: ConcurrencyState | undefined;
        let nowUs = epochUs;
        const held: Held[] = [];
        for (const action of actions) {
          nowUs += action.afterUs;
          const live = held.filter(({ untilUs }) => untilUs > nowUs);
          const used = live.reduce((sum, { slots }) => sum + slots, 0);
          if (action.kind === "take") {
            const { lease, verdict, ...outcome } = concurrencyConsume(state, nowUs, action.slots, policy);
            state = outcome.state;
            expect(verdict.allowed).toBe(used + action.slots <= policy.capacity);
            expect(verdict.never).toBe(action.slots > policy.capacity);
            expect(lease !== undefined).toBe(verdict.allowed);
            if (lease !== undefined) {
              // Fences only rise, even when every lease has gone.
              expect(held.every(({ fence }) => fence < lease.fence)).toBe(true);
              held.push({ fence: lease.fence, slots: lease.slots, untilUs: nowUs + policy.leaseUs });
            }
          } else {
            const target = held.at(action.which % Math.max(1, held.length));
            const fence = target?.fence ?? 99;
            const isLive = live.some((each) => each.fence === fence);
            if (action.kind === "renew") {
              const outcome = concurrencyRenew(state, nowUs, fence, policy);
              state = outcome.state;
              expect(outcome.lease !== undefined).toBe(isLive);
              if (isLive) target!.untilUs = nowUs + policy.leaseUs;
            } else {
              const outcome = concurrencyRelease(state, nowUs, fence, policy);
              state = outcome.state;
              expect(outcome.released).toBe(isLive);
              if (isLive) target!.untilUs = nowUs;
            }
          }
          const left = held
            .filter(({ untilUs }) => untilUs > nowUs)
            .reduce((sum, { slots }) => sum + slots, 0);
          expect(left).toBeLessThanOrEqual(policy.capacity);
          expect(concurrencyPeek(state, nowUs, 1, policy).remaining).toBe(policy.capacity - left);
        }
      }),
      { numRuns: runs },
    );
  });

  test("retryAfterUs is when enough leases will have run out, to the microsecond (RL3)", () => {
    fc.assert(
      fc.property(scenes, ({ policy, actions }) => {
        let state: ConcurrencyState | undefined;
        let nowUs = epochUs;
        for (const action of actions) {
          nowUs += action.afterUs;
          if (action.kind !== "take") continue;
          const outcome = concurrencyConsume(state, nowUs, action.slots, policy);
          state = outcome.state;
          const { allowed, never, retryAfterUs } = outcome.verdict;
          if (allowed || never) continue;
          expect(
            concurrencyConsume(state, nowUs + retryAfterUs - 1, action.slots, policy).verdict.allowed,
          ).toBe(false);
          expect(concurrencyConsume(state, nowUs + retryAfterUs, action.slots, policy).verdict.allowed).toBe(
            true,
          );
        }
      }),
      { numRuns: runs },
    );
  });
});
