import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FieldItem, parseDictionary, parseList } from "./structured-fields.ts";

/** The bare values of a list of items. */
function values(text: string): unknown[] | undefined {
  return parseList(text)?.map((member) => ("item" in member ? member.item.value : "inner list"));
}

describe("a list", () => {
  test.each<[string, unknown[]]>([
    ["", []],
    ["  1  ", [1]],
    ["1,2 ,\t3", [1, 2, 3]],
    ["-0.5, 999999999999999", [-0.5, 999999999999999]],
    ['"a", "a \\"b\\" \\\\c", ""', ["a", 'a "b" \\c', ""]],
    ["*foo/bar:baz, a!#$%&'*+-.^_`|~", ["*foo/bar:baz", "a!#$%&'*+-.^_`|~"]],
    ["?1, ?0", [true, false]],
    [":aGk=:, ::", [new Uint8Array([104, 105]), new Uint8Array()]],
    ["@1659578233, @-1", [1659578233, -1]],
    ['%"caf%c3%a9"', ["café"]],
    ["(1 2);a, ()", ["inner list", "inner list"]],
  ])("of %j is read", (text, expected) => {
    expect(values(text)).toEqual(expected);
  });

  test.each([
    "1,",
    ",1",
    "1 2",
    "1;",
    "1;A",
    "1; ;a",
    "\t1",
    "1.",
    ".5",
    "1.2345",
    "1.2.3",
    "1234567890123.1",
    "1000000000000000",
    "--1",
    '"a',
    '"\\a"',
    '"\u007f"',
    '"é"',
    ":a:b:",
    ":***:",
    "?2",
    "@1.5",
    "@9999999999999999",
    '%"%C3%A9"',
    '%"%ff"',
    "(1",
    "(1,2)",
    "(1 2)3",
    '("a""b")',
    "a=1",
    "{}",
    "x".repeat(20_000),
  ])("with a fault is none: %j", (text) => {
    expect(parseList(text)).toBeUndefined();
  });

  test("keeps the parameters of its items, the last of a name", () => {
    const [member] = parseList('"daily";q=5000;w=86400; pk=:dGVuYW50LTQy:;hot;q=1') as FieldItem[];
    expect(member!.item).toEqual({ kind: "string", value: "daily" });
    expect(member!.parameters.get("q")).toEqual({ kind: "integer", value: 1 });
    expect(member!.parameters.get("hot")).toEqual({ kind: "boolean", value: true });
    expect(new TextDecoder().decode(member!.parameters.get("pk")!.value as Uint8Array)).toBe("tenant-42");
  });

  test("tells strings from tokens and numbers", () => {
    const kinds = (parseList('"10", ten, 10, 10.0') as FieldItem[]).map(({ item }) => item.kind);
    expect(kinds).toEqual(["string", "token", "integer", "decimal"]);
  });
});

describe("a dictionary", () => {
  test("maps names to members; a name alone is true, and of a name given twice the last counts", () => {
    const members = parseDictionary("a=1, b;x=2, a=3, c=(1 2)")!;
    expect([...members.keys()]).toEqual(["a", "b", "c"]);
    expect((members.get("a") as FieldItem).item.value).toBe(3);
    expect((members.get("b") as FieldItem).item.value).toBe(true);
    expect((members.get("b") as FieldItem).parameters.get("x")?.value).toBe(2);
  });

  test.each(["=1", "A=1", "a=", "a=1,", "a=1 b=2", '"a"=1'])("with a fault is none: %j", (text) => {
    expect(parseDictionary(text)).toBeUndefined();
  });
});

describe("any text", () => {
  const alphabet = [...'abq;=,()"\\:?@%.-*019 \t'];
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 40 }),
  );

  test("is read or refused, and never more than that", () => {
    fc.assert(
      fc.property(text, (any) => {
        for (const result of [parseList(any), parseDictionary(any)])
          expect(result === undefined || typeof result === "object").toBe(true);
      }),
      { numRuns: 5000 },
    );
  });

  test("that was written as the RFC says is read back", () => {
    const item = fc.record({
      name: fc.string({
        unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
      }),
      r: fc.integer({ min: -999_999_999_999_999, max: 999_999_999_999_999 }),
    });
    fc.assert(
      fc.property(fc.array(item, { minLength: 1 }), (items) => {
        const written = items.map(({ name, r }) => `"${name.replace(/["\\]/g, "\\$&")}";r=${r}`).join(", ");
        const read = (parseList(written) as FieldItem[]).map(({ item: { value }, parameters }) => ({
          name: value,
          r: parameters.get("r")!.value,
        }));
        expect(read).toEqual(items.map(({ name, r }) => ({ name, r: r === 0 ? expect.closeTo(0) : r })));
      }),
    );
  });
});
