import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodePart, keyName } from "./key-names.ts";

const nasty = fc.oneof(
  fc.string({ unit: "binary", maxLength: 300 }),
  fc.string({
    unit: fc.constantFrom("{", "}", "%", ":", "=", "#", "a", "\u0000", "\ud800", "\udc00", "é"),
    maxLength: 200,
  }),
);

describe("keys in Redis", () => {
  test("are legible where they can be", () => {
    expect(keyName("sluice", "per-user", "user:42")).toBe("sluice:{user:42}");
    expect(keyName("sluice", "per-user", "")).toBe("sluice:{%=per-user}");
    expect(keyName("sluice", "per-user", "a{b}c")).toBe("sluice:{a%007bb%007dc}");
  });

  test("never meet: two texts never have one spelling, whatever they hold", () => {
    fc.assert(
      fc.property(nasty, nasty, (a, b) => {
        // As bytes, since that is what a client sends; there lone surrogates would all become one.
        const [one, two] = [a, b].map((text) => Buffer.from(encodePart(text)).toString("hex"));
        expect(one === two).toBe(a === b);
      }),
      { numRuns: 5_000 },
    );
  });

  test("hold one pair of braces, about what decides the slot, and are bounded", () => {
    fc.assert(
      fc.property(nasty, nasty, (limit, key) => {
        const name = keyName("sluice", encodePart(limit), key);
        expect(name).toMatch(/^sluice:\{[^{}]+\}$/);
        expect(Buffer.byteLength(name)).toBeLessThan(700);
      }),
      { numRuns: 2_000 },
    );
  });

  test("of a limit without a key never meet those of a key that is spelled like it", () => {
    fc.assert(
      fc.property(nasty, nasty, (limit, key) => {
        fc.pre(key !== "");
        expect(keyName("p", encodePart(limit), "")).not.toBe(keyName("p", encodePart(limit), key));
        expect(keyName("p", encodePart(limit), "")).not.toBe(keyName("p", encodePart(limit), `%=${limit}`));
      }),
      { numRuns: 2_000 },
    );
  });
});
