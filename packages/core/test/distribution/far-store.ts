import type { Clock, LimitStore } from "@sluice/core";

/** How a {@link farStore} answers. Times in microseconds. */
export interface Distance {
  /** How long a question travels. */
  readonly thereUs?: () => number;
  /** How long an answer travels. */
  readonly backUs?: () => number;
  /** Called when a question is sent; what it returns becomes of it. Default `arrive`. */
  readonly fate?: (operation: string) => Fate;
}

/** `refuse`: rejected at once, never arrives. `lose`: never arrives. `lose-answer`: arrives and takes effect, unanswered. */
export type Fate = "arrive" | "refuse" | "lose" | "lose-answer";

/** What a connection that is refused looks like. */
export const refused: Error = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });

/** A store at a distance: questions and answers travel on a clock, get lost, or are refused. It counts what it was asked. */
export function farStore(
  near: LimitStore,
  clock: Clock,
  { thereUs = () => 0, backUs = () => 0, fate = () => "arrive" }: Distance = {},
): LimitStore & { readonly asked: string[] } {
  const asked: string[] = [];
  const travel = (us: number): Promise<void> =>
    us === 0 ? Promise.resolve() : new Promise((resolve) => void clock.setTimer(resolve, us));
  const send = async (operation: string, ask: () => unknown): Promise<unknown> => {
    asked.push(operation);
    const becomes = fate(operation);
    if (becomes === "refuse") throw refused;
    if (becomes === "lose") return new Promise(() => {});
    await travel(thereUs());
    const answer = await ask();
    if (becomes === "lose-answer") return new Promise(() => {});
    await travel(backUs());
    return answer;
  };
  const operation = (name: keyof LimitStore): unknown => {
    const ask = near[name] as (...args: unknown[]) => unknown;
    return (...args: unknown[]) => send(name, () => ask.apply(near, args));
  };
  const names = [
    "consume",
    "consumeUpTo",
    "consumeAll",
    "peek",
    "settle",
    "block",
    "renew",
    "release",
    "reset",
  ] as const;
  const operations = Object.fromEntries(names.map((name) => [name, operation(name)]));
  return { ...operations, asked, close: () => near.close() } as unknown as LimitStore & { asked: string[] };
}
