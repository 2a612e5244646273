import { custom, integer, list, optional, resolveOptions, SluiceError, string } from "@sluice/core";
import { type Address, type AddressRange, isWithin, parseAddress, parseRange } from "./address.ts";
import type { DoorRequest } from "./door-request.ts";
import { entriesFromRight, forwardedFromRight } from "./forwarded.ts";

/**
 * Which proxies are believed when they say where a request came from. Without it nobody is, and the address is that of the
 * socket.
 */
export interface TrustOptions {
  /**
   * The proxies, as addresses, CIDR ranges, or the words `loopback` and `private`. From the socket on, and then through the
   * header from the right, the first address that is not one of them is the client's.
   */
  readonly proxies?: readonly string[];
  /**
   * How many proxies every request passes, instead of `proxies`. Only safe if nobody can reach the server except through
   * them; give `proxies` if you can.
   */
  readonly hops?: number;
  /**
   * Which header the proxies write: `x-forwarded-for` (the default), `forwarded` (RFC 7239), or one of a platform, such as
   * `cf-connecting-ip` or `fly-client-ip`. No other is looked at.
   */
  readonly header?: string;
}

/** Finds the client's address; undefined when even the socket has none, as with a Unix socket. */
export type AddressResolver = (request: DoorRequest) => Address | undefined;

const words: Readonly<Record<string, readonly string[]>> = {
  loopback: ["127.0.0.0/8", "::1/128"],
  private: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"],
};

const range = custom('an address, a CIDR range, "loopback" or "private"', (value) => {
  if (typeof value !== "string") return undefined;
  const ranges = (words[value] ?? [value]).map(parseRange);
  return ranges.every((each) => each !== undefined) ? ranges : undefined;
});

const spec = {
  proxies: optional(list(range)),
  hops: optional(integer({ min: 1, max: 32 })),
  header: string({ default: "x-forwarded-for", pattern: /^[\w-]+$/, form: "of a header name" }),
};

/**
 * Makes the resolver.
 * @throws `invalid_option`; also for `true`: to believe everybody is to let every client choose its address.
 */
export function clientAddress(trust?: TrustOptions): AddressResolver {
  if (trust === undefined) return (request) => socketAddress(request);
  if ((trust as unknown) === true) {
    const message =
      "trust: expected {proxies} or {hops}, got true: whoever trusts every proxy lets clients choose their address";
    throw new SluiceError("invalid_option", message);
  }
  const { proxies, hops, header } = resolveOptions("trust", spec, trust);
  if ((proxies === undefined) === (hops === undefined)) {
    throw new SluiceError("invalid_option", "trust: expected exactly one of the options proxies and hops");
  }
  const name = header.toLowerCase();
  const entries = name === "forwarded" ? forwardedFromRight : entriesFromRight;
  const isTrusted = hops === undefined ? within(proxies!.flat()) : (_: Address, hop: number) => hop < hops;
  return (request) => {
    const socket = socketAddress(request);
    if (socket === undefined && hops === undefined) return undefined;
    return walk(socket, () => entries(request.header(name) ?? ""), isTrusted);
  };
}

function within(ranges: readonly AddressRange[]): (address: Address) => boolean {
  return (address) => ranges.some((each) => isWithin(address, each));
}

/**
 * From the socket through the header, right to left, as far as each address is a proxy's. An entry that is no address ends
 * the walk at the proxy that wrote it down.
 */
function walk(
  socket: Address | undefined,
  entries: () => readonly string[],
  isTrusted: (address: Address, hop: number) => boolean,
): Address | undefined {
  const unknown: Address = { version: 4, groups: [0, 0] };
  if (!isTrusted(socket ?? unknown, 0)) return socket;
  let client = socket;
  for (const [index, entry] of entries().entries()) {
    const address = parseAddress(entry);
    if (address === undefined) return client;
    client = address;
    if (!isTrusted(address, index + 1)) return client;
  }
  return client;
}

function socketAddress({ remoteAddress }: DoorRequest): Address | undefined {
  return remoteAddress === undefined ? undefined : parseAddress(remoteAddress);
}
