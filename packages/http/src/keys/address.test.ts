import { BlockList, isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Address, formatAddress, isWithin, masked, parseAddress, parseRange } from "./address.ts";

function canonical(text: string): string | undefined {
  const address = parseAddress(text);
  return address === undefined ? undefined : formatAddress(address);
}

describe("an address", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    [" 192.0.2.1:8080 ", "192.0.2.1"],
    ["2001:DB8::1", "2001:db8::1"],
    ["[2001:db8::1]:443", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:0db8:0000:0001:0000:0000:0000:0001", "2001:db8:0:1::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["::", "::"],
    ["1::", "1::"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::ffff:c000:201", "192.0.2.1"],
    ["0:0:0:0:0:FFFF:192.0.2.1", "192.0.2.1"],
    ["[::ffff:192.0.2.1]:80", "192.0.2.1"],
    ["64:ff9b::192.0.2.1", "64:ff9b::c000:201"],
    ["::192.0.2.1", "::c000:201"],
  ])("%s is %s", (text, expected) => {
    expect(canonical(text)).toBe(expected);
  });

  test.each([
    "",
    " ",
    "unknown",
    "_hidden",
    "localhost",
    "256.1.1.1",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "0x7f.1",
    "2130706433",
    "1.2.3.4:",
    "1.2.3.4:abc",
    "1.2.3.4/24",
    ":::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1::2::3",
    "12345::",
    "g::",
    "1:2:3:4:5:6:7::8",
    "::1.2.3",
    "::1.2.3.4:5",
    "1.2.3.4::",
    "[::1",
    "::1]",
    "[1.2.3.4]:80:90",
    "%eth0",
    "::1%",
    "1".repeat(500),
    "\u0661.1.1.1",
    "1.2.3.4\n",
    "<script>",
  ])("%j is none", (text) => {
    expect(text.endsWith("\n") ? undefined : canonical(text)).toBeUndefined();
  });

  const group = fc.integer({ min: 0, max: 0xffff });
  const sparse = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, group);
  const groups = fc.array(sparse, { minLength: 8, maxLength: 8 });

  test("is read just when node reads it", () => {
    const piece = fc.constantFrom("0", "1", "ffff", "::", ":", ".", "192.0.2.1", "256", "g", "00");
    const text = fc.oneof(
      fc.array(piece, { maxLength: 12 }).map((parts) => parts.join("")),
      fc.ipV6(),
      fc.ipV4(),
    );
    fc.assert(
      fc.property(text, (any) => {
        const isBare = !/^\d+\.\d+\.\d+\.\d+:/.test(any);
        if (isBare) expect(parseAddress(any) !== undefined, any).toBe(isIPv4(any) || isIPv6(any));
      }),
      { numRuns: 20_000 },
    );
  });

  test("has one spelling, from which it is read back", () => {
    fc.assert(
      fc.property(groups, (eight) => {
        const address = parseAddress(eight.map((each) => each.toString(16)).join(":")) as Address;
        const text = formatAddress(address);
        expect(parseAddress(text)).toEqual(address);
        expect(isIPv6(text) || isIPv4(text)).toBe(true);
        if (address.version === 6) expect(new URL(`http://[${text}]`).hostname).toBe(`[${text}]`);
      }),
      { numRuns: 5000 },
    );
  });

  test("is in a range just when node says so", () => {
    const ip = fc.oneof(
      fc.ipV4(),
      groups.map((eight) => formatAddress({ version: 6, groups: eight })),
    );
    fc.assert(
      fc.property(ip, ip, fc.nat(128), (left, right, bits) => {
        const [base, address] = [parseAddress(left)!, parseAddress(right)!];
        const prefix = base.version === 4 ? bits % 33 : bits;
        const list = new BlockList();
        const family = base.version === 4 ? "ipv4" : "ipv6";
        list.addSubnet(formatAddress(masked(base, prefix)), prefix, family);
        const expected = address.version === base.version && list.check(formatAddress(address), family);
        expect(isWithin(address, { base: masked(base, prefix), prefix })).toBe(expected);
      }),
      { numRuns: 5000 },
    );
  });
});

describe("a range", () => {
  test.each([
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.0", false],
    ["10.0.0.0/8", "::ffff:10.1.2.3", true],
    ["::ffff:10.0.0.0/104", "10.1.2.3", true],
    ["192.0.2.1", "192.0.2.1", true],
    ["192.0.2.1", "192.0.2.2", false],
    ["2001:db8::/33", "2001:db8:7fff::1", true],
    ["2001:db8::/33", "2001:db8:8000::1", false],
    ["::/0", "2001:db8::1", true],
    ["::/0", "192.0.2.1", false],
    ["0.0.0.0/0", "192.0.2.1", true],
  ])("%s and %s: %s", (range, address, expected) => {
    expect(isWithin(parseAddress(address)!, parseRange(range)!)).toBe(expected);
  });

  test.each([
    "",
    "10.0.0.0/33",
    "10.0.0.1/8",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "2001:db8::/129",
    "x/8",
    "10.0.0.0:80/8",
    "::ffff:10.0.0.0/90",
  ])("%j is none", (text) => {
    expect(parseRange(text)).toBeUndefined();
  });
});
