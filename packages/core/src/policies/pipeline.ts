import { describeValue } from "../base/describe.ts";
import { SluiceError } from "../base/errors.ts";
import { RateLimitExceeded } from "../limit/decision.ts";
import { type Acquirable, type Call, type CallPolicy, releaseHeld, signalOr } from "./call-policy.ts";

/**
 * Puts policies in order, the outermost first. A stage is a policy (ours, cockatiel's, a pipeline) or a limit, of which each
 * call that gets there acquires 1, and holds it until it has ended if it is a concurrency limit.
 *
 * The order says what counts: `pipeline(retry(), github)` charges every attempt, `pipeline(github, retry())` the first only.
 * @throws `invalid_option` for a stage that is neither.
 *
 * @example
 *     const call = pipeline(retry({ attempts: 4 }), circuitBreaker(), github);
 *     const user = await call.execute(({ signal }) => fetch(url, { signal }));
 */
export function pipeline(...stages: readonly (CallPolicy | Acquirable)[]): CallPolicy {
  const policies = stages.map(policyOf);
  return {
    execute: (call, signal) => run(policies, 0, call, signal),
  };
}

function policyOf(stage: CallPolicy | Acquirable, index: number): CallPolicy {
  if (typeof stage === "object" && stage !== null) {
    if ("execute" in stage && typeof stage.execute === "function") return stage;
    if ("acquire" in stage && typeof stage.acquire === "function") return whenAdmitted(stage);
  }
  const expected = "a policy (with execute) or a limit (with acquire)";
  throw new SluiceError(
    "invalid_option",
    `pipeline: stage ${index + 1}: expected ${expected}, got ${describeValue(stage)}`,
  );
}

function run<Result>(
  policies: readonly CallPolicy[],
  from: number,
  call: Call<Result>,
  signal: AbortSignal | undefined,
): Promise<Result> {
  const policy = policies[from];
  if (policy === undefined) return Promise.resolve({ signal: signalOr(signal) }).then(call);
  return policy.execute((context) => run(policies, from + 1, call, context.signal), signal);
}

function whenAdmitted(limit: Acquirable): CallPolicy {
  return {
    async execute(call, signal) {
      const decision = await limit.acquire(1, signal === undefined ? {} : { signal });
      if (!decision.allowed) throw new RateLimitExceeded(decision);
      try {
        return await call({ signal: signalOr(signal) });
      } finally {
        await releaseHeld(decision);
      }
    },
  };
}
