/**
 * A process that asks for one key as fast as it is answered, and tells what it was admitted. Arguments: the server's URL (with
 * `cluster` for any node of a cluster), the prefix, what to do, for how long in milliseconds, and its number.
 */
import { parseRate, ratePolicy } from "@sluice/core";
import { redis } from "@sluice/core/redis";
import { type Cluster, Redis } from "ioredis";
import { contended, groupOf } from "./contended-limits.ts";

const [url = "", prefix = "", what = "", forMs = "1000"] = process.argv.slice(2);
const client: Redis | Cluster = ["groups", "shared", "torn"].includes(what)
  ? new Redis.Cluster([url], { redisOptions: { commandTimeout: 3_000 } })
  : new Redis(url);
client.on("error", () => {});
const store = redis(what === "torn" ? torn() : client, { prefix });

/** The client, but the process dies when the first reservation of a group has been answered and before the next one leaves. */
function torn() {
  let calls = 0;
  let first: Promise<unknown> | undefined;
  return {
    isCluster: true,
    eval: client.eval.bind(client),
    evalsha(sha: string, keys: number, ...rest: string[]): Promise<unknown> {
      calls++;
      // Three peeks come before.
      if (calls <= 4) {
        first = client.evalsha(sha, keys, ...rest);
        return first;
      }
      return first!.then(() => {
        process.kill(process.pid, "SIGKILL");
        return new Promise(() => {});
      });
    },
  };
}
const endMs = performance.now() + Number(forMs);

async function single(name: keyof typeof contended): Promise<void> {
  const admitted: [number, number][] = [];
  const rule = contended[name];
  const ask = async (i: number): Promise<void> => {
    while (performance.now() < endMs) {
      const cost = 1 + (i % 2);
      const { granted, atUs } = await store.consume(rule, "hot", cost);
      if (granted > 0) admitted.push([atUs, granted]);
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, i) => ask(i)));
  process.stdout.write(JSON.stringify(admitted));
}

async function shared(): Promise<void> {
  const rule = Object.freeze({
    name: "shared",
    policy: ratePolicy(parseRate("1000000/h"), { algorithm: "token-bucket" }),
  });
  let granted = 0;
  const failures: string[] = [];
  for (let i = 0; performance.now() < endMs; i++) {
    await store.consume(rule, `k${i % 5}`, 1).then(
      () => granted++,
      (error: Error) => failures.push(error.message),
    );
  }
  process.stdout.write(JSON.stringify({ granted, failures }));
}

/** Every admission is told before the next one is asked for, since this process may be killed at any moment. */
async function groups(): Promise<void> {
  while (performance.now() < endMs) {
    const verdicts = await store.consumeAll(groupOf("s"));
    const admitted = verdicts.filter(({ granted }) => granted > 0).length;
    process.stdout.write(admitted === verdicts.length ? "+" : admitted === 0 ? "." : "!");
  }
}

if (what === "groups" || what === "torn") await groups();
else if (what === "shared") await shared();
else await single(what as keyof typeof contended);
client.disconnect();
