/**
 * Whose budget a request draws from. A resolver makes a key of the request; every key carries its kind in front, so that no
 * user can be called what an address is called.
 */
import { createHash } from "node:crypto";
import { boolean, integer, oneOf, optional, resolveOptions, SluiceError } from "@sluice/core";
import { formatAddress, masked } from "./address.ts";
import { type AddressResolver, clientAddress, type TrustOptions } from "./client-address.ts";
import type { DoorRequest } from "./door-request.ts";

/**
 * Makes a key of a request. Empty is the limit's own budget, which everybody shares; undefined means that the limit does
 * not concern this request.
 */
export type KeyResolver = (request: DoorRequest) => string | undefined | PromiseLike<string | undefined>;

/** The longest key that is kept as it is, in UTF-16 units. */
const plainLengthMax = 128;

const hashed = "sha256:";

/**
 * The key for any text: itself, or its SHA-256 when it is long, holds characters that keys may not, or looks like one that
 * was hashed. Whatever a client sends, the key is bounded, and different texts have different keys.
 */
export function safeKey(text: string): string {
  if (text.length <= plainLengthMax && /^[\x20-\x7e]+$/.test(text) && !text.startsWith(hashed)) return text;
  return hashed + digest(text);
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}

/** The options of {@link byAddress}. */
export interface AddressKeyOptions {
  /** Which proxies are believed; default those of the door, or nobody. */
  readonly trust?: TrustOptions;
  /**
   * How many bits of an IPv6 address make the key; default 64, what one subscriber is given at the least. For a second,
   * wider limit over whoever has more, give 48 or 56.
   */
  readonly ipv6Prefix?: number;
  /** How many bits of an IPv4 address make the key; default 32, the whole address. */
  readonly ipv4Prefix?: number;
  /** Concerns only addresses of this version; default both. */
  readonly only?: "ipv4" | "ipv6";
}

const addressSpec = {
  trust: optional({ expected: "options of trust", read: (value: unknown) => value as TrustOptions }),
  ipv6Prefix: integer({ default: 64, min: 1, max: 128 }),
  ipv4Prefix: integer({ default: 32, min: 1, max: 32 }),
  only: optional(oneOf(["ipv4", "ipv6"])),
};

/**
 * By the client's IP address: `ip:192.0.2.7`, `ip:2001:db8:0:1::/64`. IPv6 clients are given whole networks to choose
 * addresses from, so the network is the key. Requests without an address (Unix sockets) share one key.
 * @throws `invalid_option`.
 */
export function byAddress(options?: AddressKeyOptions): KeyResolver {
  const { trust, only, ...prefixes } = resolveOptions("byAddress", addressSpec, options);
  const own = trust === undefined ? undefined : clientAddress(trust);
  return (request) => {
    const address = (own ?? resolverOf(request))(request);
    if (address === undefined) return only === undefined ? "ip:unknown" : undefined;
    const { version, groups } = address;
    if (only !== undefined && only !== `ipv${version}`) return undefined;
    const prefix = version === 4 ? prefixes.ipv4Prefix : prefixes.ipv6Prefix;
    const text = formatAddress(masked(address, prefix));
    return prefix === groups.length * 16 ? `ip:${text}` : `ip:${text}/${prefix}`;
  };
}

/** A request whose door has said which proxies it believes. */
export interface TrustedRequest extends DoorRequest {
  readonly addressOf?: AddressResolver;
}

const socketOnly = clientAddress();

function resolverOf(request: TrustedRequest): AddressResolver {
  return request.addressOf ?? socketOnly;
}

/** The options of {@link byHeader}. */
export interface HeaderKeyOptions {
  /**
   * Whether the value is kept as it is, instead of its SHA-256; default false. Headers that name a caller are mostly
   * secrets, and a store is no place for those.
   */
  readonly plain?: boolean;
  /** The key of requests without the header; default {@link byAddress}, so that leaving it out gains nothing. */
  readonly otherwise?: KeyResolver;
}

/**
 * By the value of a header, `x-api-key` for instance. Whoever can make values up has a new budget with each: check them
 * before, or put a limit by address beside this one.
 * @throws `invalid_option`.
 */
export function byHeader(name: string, options: HeaderKeyOptions = {}): KeyResolver {
  const spec = { plain: boolean({ default: false }), otherwise: optional(resolver) };
  const { plain, otherwise = byAddress() } = resolveOptions("byHeader", spec, options);
  if (typeof name !== "string" || !/^[\w!#$%&'*+.^`|~-]+$/.test(name))
    throw new SluiceError("invalid_option", "byHeader: expected the name of a header");
  const header = name.toLowerCase();
  return (request) => {
    const value = request.header(header)?.trim();
    if (value === undefined || value === "") return otherwise(request);
    return `${header}:${plain ? safeKey(value) : digest(value)}`;
  };
}

const resolver = {
  expected: "a function",
  read(value: unknown): KeyResolver {
    if (typeof value === "function") return value as KeyResolver;
    throw new SluiceError("invalid_option", "byHeader, byUser: option otherwise: expected a function");
  },
};

/**
 * By who is logged in: `user` finds the id in the framework's own request, and must not trust what the client says of
 * itself. Requests of nobody go by `otherwise`, by default their address.
 *
 * @example
 *     byUser((request) => (request as Request & { user?: { id: string } }).user?.id)
 */
export function byUser(
  user: (
    native: unknown,
  ) => string | number | undefined | null | PromiseLike<string | number | undefined | null>,
  options: { readonly otherwise?: KeyResolver } = {},
): KeyResolver {
  const { otherwise = byAddress() } = resolveOptions("byUser", { otherwise: optional(resolver) }, options);
  if (typeof user !== "function") throw new SluiceError("invalid_option", "byUser: expected a function");
  return async (request) => {
    const id = await user(request.native);
    return id === undefined || id === null || id === "" ? otherwise(request) : `user:${safeKey(String(id))}`;
  };
}

/** One budget for everybody. */
export const shared: KeyResolver = () => "";
