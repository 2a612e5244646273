import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { limit, rateLimited, wrap } from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

describe("wrap", () => {
  test("waits for admission, then calls with the same `this` and arguments", async () => {
    const clock = virtualClock();
    const l = limit("l", "1/s", { clock });
    const account = {
      balance: 5,
      add(amount: number, _note?: string): number {
        this.balance += amount;
        return this.balance;
      },
    };
    const add = wrap(account.add, l);
    expect([add.name, add.length]).toEqual(["add", 2]);
    expect(await add.call(account, 1)).toBe(6);
    const second = add.call(account, 2, "why");
    await clock.advanceAsync(999_999);
    expect(account.balance).toBe(6);
    await clock.advanceAsync(1);
    expect(await second).toBe(8);
  });

  test("rejects with what the function throws, and does not retry or give back", async () => {
    const l = limit("l", "5/h");
    const fail = wrap(() => {
      throw new Error("oops");
    }, l);
    await expect(fail()).rejects.toThrow("oops");
    expect(await l.available()).toBe(4);
  });

  test("takes cost and key from the arguments", async () => {
    const l = limit("l", "10/h");
    const send = wrap((_tenant: string, ids: number[]) => ids.length, l, {
      key: (tenant) => tenant,
      cost: (_, ids) => ids.length,
    });
    expect(await send("acme", [1, 2, 3])).toBe(3);
    expect([await l.for("acme").available(), await l.available()]).toEqual([7, 10]);
  });

  test("rejects with RateLimitExceeded when the wait would exceed maxWaitMs, without calling", async () => {
    const l = limit("l", "1/h");
    const call = vi.fn();
    const wrapped = wrap(call, l, { maxWaitMs: 50 });
    await wrapped();
    await expect(wrapped()).rejects.toMatchObject({ code: "rate_limited", decision: { limit: "l" } });
    expect(call).toHaveBeenCalledTimes(1);
  });

  test("an abort ends the wait", async () => {
    const l = limit("l", "1/h");
    const load = wrap(async (_url: string, _options: { signal?: AbortSignal }) => 1, l, {
      signal: (_, { signal }) => signal,
    });
    await load("a", {});
    const cancel = new AbortController();
    const waiting = load("b", { signal: cancel.signal });
    cancel.abort("enough");
    await expect(waiting).rejects.toBe("enough");
  });

  test.each([
    [{ cost: 0 }],
    [{ cost: -1 }],
    [{ cost: 1.5 }],
    [{ key: 5 }],
    [{ signal: {} }],
    [{ weight: 1 }],
  ])("refuses %o", (options) => {
    const l = limit("l", "1/h");
    expect(() => wrap(() => 1, l, options as never)).toThrow(
      expect.objectContaining({ code: "invalid_option" }),
    );
  });

  test("a bad key or cost that a function makes rejects the call", async () => {
    const l = limit("l", "1/h");
    await expect(wrap((_k: string) => 1, l, { key: (k) => k })("")).rejects.toMatchObject({
      code: "invalid_key",
    });
    await expect(wrap((_c: number) => 1, l, { cost: (c) => c })(-1)).rejects.toMatchObject({
      code: "invalid_cost",
    });
    expect(await l.available()).toBe(1);
  });
});

describe("rateLimited", () => {
  const context = { kind: "method", name: "call" } as never;

  test("puts a method under a limit, with its `this`", async () => {
    const l = limit("l", "2/h");
    class Api {
      readonly calls: string[] = [];
      async call(path: string): Promise<string> {
        this.calls.push(path);
        return `${path}!`;
      }
    }
    const call = rateLimited(l, { maxWaitMs: 0 })(Api.prototype.call, context);
    const api = new Api();
    expect(await call.call(api, "a")).toBe("a!");
    expect(await call.call(new Api(), "b")).toBe("b!");
    await expect(call.call(api, "c")).rejects.toMatchObject({ code: "rate_limited" });
    expect(api.calls).toEqual(["a"]);
  });

  test("makes a method that returns nothing wait", async () => {
    const l = limit("l", "1/h");
    const seen: number[] = [];
    const log = rateLimited(l)((n: number): void => void seen.push(n), context);
    await (log(1) as unknown as Promise<void>);
    expect(seen).toEqual([1]);
  });

  test("works as a decorator of TypeScript's experimental kind, as NestJS uses", async () => {
    const l = limit("l", "1/h");
    const target = { call: async (n: number): Promise<number> => n + 1 };
    const descriptor = Object.getOwnPropertyDescriptor(target, "call")!;
    rateLimited(l, { maxWaitMs: 0 })(target, "call", descriptor as never);
    Object.defineProperty(target, "call", descriptor);
    expect(await target.call(1)).toBe(2);
    await expect(target.call(1)).rejects.toMatchObject({ code: "rate_limited" });
  });

  test.each([
    ["a field", { kind: "field" }],
    ["a class", { kind: "class" }],
  ])("refuses %s", (_, where) => {
    const decorate = rateLimited(limit("l", "1/h")) as (subject: unknown, context: unknown) => unknown;
    expect(() => decorate(() => {}, where)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });
});

describe("rateLimited as a decorator of the standard", () => {
  const root = join(import.meta.dirname, "..", "..", "..", "..");
  const source = join(root, "packages", "core", "src");
  let folder = "";

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "sluice-decorator-"));
    const compilerOptions = {
      ...{ target: "es2022", module: "nodenext", strict: true, skipLibCheck: true, types: ["node"] },
      ...{ lib: ["es2023", "es2024.string", "esnext.disposable", "esnext.decorators"] },
      ...{ typeRoots: [join(root, "node_modules", "@types")], rootDir: "/", outDir: "out" },
      ...{ allowImportingTsExtensions: true, rewriteRelativeImportExtensions: true },
    };
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["program.ts"] }));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Compiles a class with this method; returns what the compiler says. */
  const compile = (method: string): string => {
    const program = `
      import { limit } from ${JSON.stringify(relative(folder, join(source, "declare-limit.ts")))};
      import { rateLimited } from ${JSON.stringify(relative(folder, join(source, "policies", "rate-limited.ts")))};
      const l = limit("l", "2/h");
      class Api {
        name = "api";
        @rateLimited(l, { key: (tenant: string) => tenant, maxWaitMs: 0 })
        ${method}
      }
      const api = new Api();
      console.log(JSON.stringify(await api.call("a", 1)));
      await api.call("a", 2);
      console.log(await api.call("a", 3).catch((error: { code: string }) => error.code));
      console.log(JSON.stringify(await api.call("b", 4)));
    `;
    writeFileSync(join(folder, "program.ts"), program);
    const { stdout } = spawnSync(join(root, "node_modules", ".bin", "tsc"), ["-p", folder], {
      encoding: "utf8",
    });
    return stdout;
  };

  test("compiles and runs", { timeout: 60_000 }, () => {
    expect(compile("async call(tenant: string, n: number) { return [this.name, tenant, n]; }")).toBe("");
    const url = pathToFileURL(join(folder, "out", folder, "program.js")).href;
    const shown = execFileSync(process.execPath, ["--input-type=module", "-e", `await import("${url}")`], {
      encoding: "utf8",
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    expect(shown.trim().split("\n")).toEqual(['["api","a",1]', "rate_limited", '["api","b",4]']);
  });

  test("the compiler refuses a method that returns a value and so cannot wait", { timeout: 60_000 }, () => {
    expect(compile("call(tenant: string, n: number): string { return tenant + n; }")).toMatch(/TS1(241|270)/);
  });

  test("the compiler refuses a key of other arguments", { timeout: 60_000 }, () => {
    const complaint = compile("async call(tenant: Date, n: number) { return [this.name, tenant, n]; }");
    expect(complaint).toMatch(/TS1(241|270)/);
  });
});
