import { isSluiceError, limit } from "@sluice/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatAddress } from "./address.ts";
import { clientAddress, type TrustOptions } from "./client-address.ts";
import type { DoorRequest } from "./door-request.ts";
import { entriesFromRight, forwardedFromRight } from "./forwarded.ts";
import { byAddress, byHeader, byUser, safeKey, shared } from "./key.ts";

function request(remoteAddress: string | undefined, headers: Record<string, string> = {}): DoorRequest {
  return { method: "GET", url: "/", remoteAddress, native: headers, header: (name) => headers[name] };
}

function client(
  trust: TrustOptions | undefined,
  remoteAddress: string,
  header = "",
  name = "x-forwarded-for",
) {
  const address = clientAddress(trust)(request(remoteAddress, header === "" ? {} : { [name]: header }));
  return address === undefined ? undefined : formatAddress(address);
}

describe("the client's address", () => {
  test("is that of the socket when nobody is trusted, whatever a header says", () => {
    expect(client(undefined, "203.0.113.9", "198.51.100.1")).toBe("203.0.113.9");
    expect(client(undefined, "::ffff:203.0.113.9")).toBe("203.0.113.9");
  });

  const proxies = { proxies: ["loopback", "10.0.0.0/8"] };
  test.each([
    ["one proxy", "127.0.0.1", "198.51.100.1", "198.51.100.1"],
    ["two proxies", "10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"],
    ["a spoofed entry in front", "10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"],
    ["a spoofed entry that looks like a proxy", "10.0.0.1", "10.9.9.9, 198.51.100.1", "198.51.100.1"],
    ["a socket that is no proxy", "198.51.100.1", "1.2.3.4", "198.51.100.1"],
    ["no header", "10.0.0.1", "", "10.0.0.1"],
    ["only proxies: the one furthest out", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"],
    ["a port", "10.0.0.1", "198.51.100.1:51234", "198.51.100.1"],
    ["garbage behind a proxy", "10.0.0.1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2"],
    ["garbage alone", "10.0.0.1", "<script>", "10.0.0.1"],
    ["empty entries", "10.0.0.1", ", 198.51.100.1, ,", "198.51.100.1"],
    ["mapped IPv4", "::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"],
    ["IPv6", "::1", "2001:db8::1", "2001:db8::1"],
    ["several lines of the header", "10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.7", "198.51.100.1"],
  ])("with trusted ranges: %s", (_what, socket, header, expected) => {
    expect(client(proxies, socket, header)).toBe(expected);
  });

  test.each([
    [1, "198.51.100.1", "198.51.100.1"],
    [1, "1.2.3.4, 198.51.100.1", "198.51.100.1"],
    [2, "1.2.3.4, 198.51.100.1, 10.0.0.2", "198.51.100.1"],
    [3, "198.51.100.1", "198.51.100.1"],
    [1, "", "10.0.0.1"],
  ])("with %i hops and %j is counted from the right", (hops, header, expected) => {
    expect(client({ hops }, "10.0.0.1", header)).toBe(expected);
  });

  test("behind a Unix socket is what the hops say", () => {
    const address = clientAddress({ hops: 1 })(request(undefined, { "x-forwarded-for": "198.51.100.1" }));
    expect(formatAddress(address!)).toBe("198.51.100.1");
    expect(clientAddress()(request(undefined))).toBeUndefined();
  });

  test("comes from the header that is named, and from no other", () => {
    const trust = { proxies: ["10.0.0.0/8"], header: "CF-Connecting-IP" };
    expect(client(trust, "10.0.0.1", "198.51.100.1", "cf-connecting-ip")).toBe("198.51.100.1");
    expect(client(trust, "10.0.0.1", "198.51.100.1")).toBe("10.0.0.1");
  });

  test.each([
    ["for=198.51.100.1", "198.51.100.1"],
    ['for=1.2.3.4, For="[2001:db8::17]:4711";proto=https;by=10.0.0.1', "2001:db8::17"],
    ['by=10.0.0.2;for="198.51.100.1:80"', "198.51.100.1"],
    ["for=_secret", "10.0.0.1"],
    ["for=unknown, proto=https", "10.0.0.1"],
    ['for=1.2.3.4;by="a,for=9.9.9.9", for=198.51.100.1', "198.51.100.1"],
    ['for="1.2.3.4, for=198.51.100.1', "10.0.0.1"],
    ['for=6.6.6.6, for="1.2.3.4, for=198.51.100.1', "10.0.0.1"],
    ["xfor=1.2.3.4", "10.0.0.1"],
  ])("reads Forwarded: %s", (header, expected) => {
    expect(client({ ...proxies, header: "forwarded" }, "10.0.0.1", header, "forwarded")).toBe(expected);
  });

  test("10 000 entries are read from the right, quickly", () => {
    const header = `${Array(10_000).fill("1.2.3.4").join(", ")}, 198.51.100.1`;
    expect(client(proxies, "10.0.0.1", header)).toBe("198.51.100.1");
    const all = Array(10_000).fill("10.1.1.1").join(",");
    expect(entriesFromRight(all)).toHaveLength(64);
    expect(client(proxies, "10.0.0.1", all)).toBe("10.1.1.1");
    expect(forwardedFromRight(Array(10_000).fill("for=1.2.3.4").join(","))).toHaveLength(64);
  });

  test("no header makes it throw, or lets a client name itself past a proxy that writes correctly", () => {
    const evil = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'1.,:;"=[]for \t%\\a') }));
    fc.assert(
      fc.property(evil, (spoofed) => {
        expect(client(proxies, "10.0.0.1", `${spoofed},198.51.100.1`)).toBe("198.51.100.1");
        const forwarded = client(
          { ...proxies, header: "forwarded" },
          "10.0.0.1",
          `${spoofed},for=198.51.100.1`,
          "forwarded",
        );
        expect(["198.51.100.1", "10.0.0.1"]).toContain(forwarded);
      }),
      { numRuns: 5000 },
    );
  });

  test.each<[unknown, RegExp]>([
    [true, /got true: whoever trusts every proxy/],
    [{}, /exactly one of the options proxies and hops/],
    [{ hops: 1, proxies: [] }, /exactly one/],
    [{ hops: 0 }, /option hops: expected a whole number from 1 to 32/],
    [{ proxies: ["10.0.0.1/8"] }, /proxies\[0\]: expected an address, a CIDR range/],
    [{ proxies: ["everyone"] }, /proxies\[0\]/],
    [{ hops: 1, header: "x forwarded" }, /option header/],
  ])("%j is refused as trust", (trust, message) => {
    expect(() => clientAddress(trust as TrustOptions)).toThrow(message);
  });
});

describe("a key", () => {
  test.each([
    ["203.0.113.9", "ip:203.0.113.9"],
    ["2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"],
    ["2001:db8:1:2::", "ip:2001:db8:1:2::/64"],
    ["::ffff:203.0.113.9", "ip:203.0.113.9"],
  ])("by the address %s is %s", (address, expected) => {
    expect(byAddress()(request(address))).toBe(expected);
  });

  test("by a wider network has a limit of its own, for IPv6 only if one says so", () => {
    const wide = byAddress({ ipv6Prefix: 48, only: "ipv6" });
    expect(wide(request("2001:db8:1:2::1"))).toBe("ip:2001:db8:1::/48");
    expect(wide(request("203.0.113.9"))).toBeUndefined();
    expect(wide(request(undefined))).toBeUndefined();
    expect(byAddress({ ipv4Prefix: 24 })(request("203.0.113.9"))).toBe("ip:203.0.113.0/24");
    expect(byAddress({ ipv6Prefix: 128 })(request("2001:db8::1"))).toBe("ip:2001:db8::1");
    expect(byAddress()(request(undefined))).toBe("ip:unknown");
  });

  test("by a header is a hash of it, and that of the address without it", async () => {
    const resolver = byHeader("X-API-Key");
    const key = await resolver(request("203.0.113.9", { "x-api-key": "secret" }));
    expect(key).toMatch(/^x-api-key:[\w-]{43}$/);
    expect(key).not.toContain("secret");
    expect(await resolver(request("203.0.113.9", { "x-api-key": " " }))).toBe("ip:203.0.113.9");
    expect(await byHeader("x-tenant", { plain: true })(request("::1", { "x-tenant": "acme" }))).toBe(
      "x-tenant:acme",
    );
    expect(await byHeader("x", { otherwise: () => undefined })(request("::1"))).toBeUndefined();
    expect(() => byHeader("no name")).toThrow(/name of a header/);
  });

  test("by user is never the key of an address, whatever the user is called", async () => {
    const resolver = byUser((native) => (native as { id?: string | number }).id);
    expect(await resolver(request("::1", { id: "ip:203.0.113.9" }))).toBe("user:ip:203.0.113.9");
    expect(await resolver({ ...request("::1"), native: { id: 0 } })).toBe("user:0");
    expect(await resolver(request("203.0.113.9"))).toBe("ip:203.0.113.9");
  });

  test("that is shared is the limit's own", () => {
    expect(shared(request("::1"))).toBe("");
  });

  test("of any text is one that a limit takes, and different for different texts", () => {
    const perKey = limit("per-key", "1/h");
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 1000 }),
      fc.string({ minLength: 120, maxLength: 140 }),
    );
    fc.assert(
      fc.property(text, text, (one, other) => {
        if (one !== "") expect(() => perKey.for(safeKey(one))).not.toThrow();
        if (one !== other) expect(safeKey(one)).not.toBe(safeKey(other));
        expect(safeKey(safeKey(one)) === safeKey(one)).toBe(!safeKey(one).startsWith("sha256:"));
      }),
    );
  });

  test("options that are not known are refused", () => {
    expect.assertions(2);
    try {
      byAddress({ ipv6Bits: 64 } as never);
    } catch (error) {
      expect(isSluiceError(error, "invalid_option")).toBe(true);
    }
    expect(() => byUser("id" as never)).toThrow(/byUser/);
  });
});
