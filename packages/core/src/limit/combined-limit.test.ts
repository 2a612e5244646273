import { describe, expect, test } from "vitest";
import { isSluiceError } from "../base/errors.ts";
import { concurrency, limit } from "../declare-limit.ts";
import { memory } from "../stores/memory/memory-store.ts";
import { distantStore } from "../testing/distant-store.ts";
import { virtualClock } from "../testing/virtual-clock.ts";
import { all } from "./combined-limit.ts";
import { Slot } from "./slot.ts";

const ms = 1_000;

const codeOf = async (work: () => unknown): Promise<string> => {
  try {
    await work();
    return "none";
  } catch (error) {
    return isSluiceError(error) ? error.code : String(error);
  }
};

function setUp() {
  const clock = virtualClock(0);
  const store = memory({ clock });
  const perUser = limit("per-user", "2/10ms", { store, clock });
  const perTenant = limit("per-tenant", "3/40ms", { store, clock });
  const tokens = limit("tokens", "100/s", { store, clock, algorithm: "token-bucket" });
  const slots = concurrency("slots", 1, { store, clock });
  return { clock, store, perUser, perTenant, tokens, slots };
}

describe("several limits as one", () => {
  test("take from all, each its own cost, and say how often that would pass again", () => {
    const { perUser, perTenant, tokens } = setUp();
    const both = all(perUser.for("ada"), perTenant.for("acme"), { limit: tokens, cost: 40 });
    expect(both.tryAcquire()).toMatchObject({
      allowed: true,
      remaining: 1,
      violated: [],
      limit: "per-user + per-tenant + tokens",
      parts: [
        { limit: "per-user", key: "ada", remaining: 1 },
        { limit: "per-tenant", key: "acme", remaining: 2 },
        { limit: "tokens", cost: 40, remaining: 60 },
      ],
    });
    expect(tokens.available()).toBe(60);
  });

  test("take from none when one refuses, name every one that does, and say when the whole passes", () => {
    const { clock, perUser, perTenant, tokens } = setUp();
    const whole = all(perUser.for("ada"), perTenant.for("acme"), { limit: tokens, cost: 30 });
    void perUser.check("ada", 2);
    void perTenant.check("acme", 3);
    const denied = whole.tryAcquire();
    expect(denied).toMatchObject({ allowed: false, violated: ["per-user", "per-tenant"], retryAfterMs: 40 });
    expect(denied.parts.map(({ allowed, retryAfterMs }) => [allowed, retryAfterMs])).toEqual([
      [false, 10],
      [false, 40],
      [true, 0],
    ]);
    expect(tokens.available()).toBe(100);
    clock.advance(39_999);
    expect(whole.tryAcquire().violated).toEqual(["per-tenant"]);
    clock.advance(1);
    expect(whole.peek().allowed).toBe(true);
    expect(whole.tryAcquire().allowed).toBe(true);
    expect(() => all({ limit: tokens, cost: 80 }, perUser).tryAcquire({ throws: true })).toThrow(
      'limit "tokens" refused',
    );
  });

  test("add up the costs of a budget that is named twice", () => {
    const { tokens } = setUp();
    expect(all({ limit: tokens, cost: 60 }, { limit: tokens, cost: 60 }).tryAcquire().never).toBe(true);
    expect(all({ limit: tokens, cost: 20 }, { limit: tokens, cost: 30 }).tryAcquire().allowed).toBe(true);
    expect(tokens.available()).toBe(50);
  });

  test("wait in order until the whole passes, and give up when it would take too long", async () => {
    const { clock, perUser, perTenant } = setUp();
    const both = all(perUser, perTenant);
    const served: string[] = [];
    for (const name of ["a", "b", "c", "d"]) {
      void both.acquire().then(() => served.push(`${name}@${clock.nowUs() / ms}`));
    }
    expect(await both.acquire({ maxWaitMs: 30 })).toMatchObject({ allowed: false, retryAfterMs: 40 });
    const giveUp = new AbortController();
    const aborted = both.acquire({ signal: giveUp.signal }).catch((reason: unknown) => reason);
    giveUp.abort("gave up");
    expect(await aborted).toBe("gave up");
    await clock.advanceAsync(50 * ms);
    expect(served).toEqual(["a@0", "b@0", "c@10", "d@40"]);
    expect(clock.pendingTimers).toBe(0);
    expect(await codeOf(() => all({ limit: perUser, cost: 3 }, perTenant).acquire())).toBe(
      "cost_exceeds_capacity",
    );
  });

  test("hold slots among them until they are released", async () => {
    const { clock, perUser, slots } = setUp();
    const both = all(perUser, slots);
    {
      using held = both.tryAcquire();
      expect([held.allowed, held.parts[1] instanceof Slot, slots.available()]).toEqual([true, true, 0]);
      expect(both.tryAcquire()).toMatchObject({ allowed: false, violated: ["slots"] });
    }
    expect([slots.available(), perUser.available()]).toEqual([1, 1]);
    const held = await both.acquire();
    expect([held.release(), held.release()]).toEqual([true, false]);
    expect(clock.pendingTimers).toBe(0);
  });

  test("are reserved together and settled each for itself", async () => {
    const { perUser, tokens, slots } = setUp();
    const reservation = all(perUser, { limit: tokens, cost: 50 }, slots).reserve();
    expect(reservation.allowed).toBe(true);
    expect(await codeOf(() => reservation.settle([1, 10]))).toBe("invalid_cost");
    expect(await codeOf(() => reservation.settle([1, -10, 0]))).toBe("invalid_cost");
    void reservation.settle([1, 10, 0]);
    expect([perUser.available(), tokens.available(), slots.available()]).toEqual([1, 90, 1]);
    expect(await codeOf(() => reservation.settle([1, 10, 0]))).toBe("not_settleable");
    void all(perUser, { limit: tokens, cost: 50 }, slots).reserve().cancel();
    expect([perUser.available(), tokens.available(), slots.available()]).toEqual([1, 90, 1]);
    const denied = all(perUser, { limit: tokens, cost: 95 }).reserve();
    void denied.cancel();
    expect(await codeOf(() => denied.settle([0, 0]))).toBe("not_settleable");
  });

  test("in the process need not share a store; elsewhere they must", async () => {
    const { clock, store, perUser } = setUp();
    const alone = limit("alone", "1/s", { clock });
    const both = all(perUser, alone);
    expect([both.tryAcquire().allowed, both.tryAcquire().violated, perUser.available()]).toEqual([
      true,
      ["alone"],
      1,
    ]);
    const far = limit("far", "1/s", { clock, store: distantStore(store, clock, 0) });
    expect(await codeOf(() => all<"now" | "later">(perUser, far))).toBe("invalid_option");
  });

  test("one that has no room for a new key debits none of the others, in one store or several", async () => {
    const clock = virtualClock();
    const roomy = limit("roomy", "5/s", { clock });
    const full = limit("full", "5/s", { clock, maxKeys: 1 });
    void full.check("first");
    expect(await codeOf(() => all(roomy, full.for("second")).tryAcquire())).toBe("too_many_keys");
    expect(roomy.available()).toBe(5);
  });

  test("answer by promise from a store far away", async () => {
    const clock = virtualClock(0);
    const store = distantStore(memory({ clock }), clock, 1 * ms);
    const [a, b] = [limit("a", "1/10ms", { store, clock }), limit("b", "2/10ms", { store, clock })];
    const both = all(a, b);
    const log: boolean[] = [];
    for (const answer of [both.tryAcquire(), both.tryAcquire(), both.peek()]) {
      void answer.then(({ allowed }) => log.push(allowed));
    }
    void both.acquire().then(({ allowed }) => log.push(allowed));
    await clock.advanceAsync(2 * ms);
    expect(log).toEqual([true, false, false]);
    await clock.advanceAsync(20 * ms);
    expect(log).toEqual([true, false, false, true]);
  });

  test.each([[[]], [[{}]], [[undefined]], [["github"]], [[{ limit: 5 }]]])(
    "of %j is refused",
    async (parts) => {
      expect(await codeOf(() => all(...(parts as never[])))).toBe("invalid_option");
    },
  );

  test("refuses a bad cost, and a limit that was closed", async () => {
    const { perUser, tokens } = setUp();
    expect(await codeOf(() => all({ limit: tokens, cost: 0 }))).toBe("invalid_cost");
    const both = all(perUser, tokens);
    await perUser.close();
    expect(await codeOf(() => both.tryAcquire())).toBe("closed");
    expect(await codeOf(() => both.acquire())).toBe("closed");
    expect(tokens.available()).toBe(100);
  });

  test("tell each limit's listeners of its decisions, not of what others held up", () => {
    const { perUser, tokens } = setUp();
    const heard: string[] = [];
    for (const l of [perUser, tokens])
      l.on("decision", ({ limit: name, allowed }) => heard.push(`${name}:${allowed}`));
    const both = all({ limit: perUser, cost: 2 }, tokens);
    void both.tryAcquire();
    void both.tryAcquire();
    void both.peek();
    expect(heard).toEqual(["per-user:true", "tokens:true", "per-user:false"]);
  });
});
