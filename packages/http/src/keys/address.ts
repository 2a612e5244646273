/**
 * IP addresses as what they are and not as text: the same address has many spellings, and a limit that is keyed by spelling
 * is no limit. IPv4 within IPv6 (`::ffff:192.0.2.1`) is IPv4, told by its bits.
 */

/** An address: its version, and its groups of 16 bits, two or eight. */
export interface Address {
  readonly version: 4 | 6;
  readonly groups: readonly number[];
}

/** A range of addresses. */
export interface AddressRange {
  readonly base: Address;
  /** How many leading bits are those of `base`. */
  readonly prefix: number;
}

/** The longest text that is looked at: an address with a port, brackets and a zone is shorter. */
const textLengthMax = 100;

/**
 * Reads an address as proxies and sockets write it: with or without port, brackets and zone. Undefined when it is none; IPv4
 * with leading zeros is none, since programs disagree on whether they make it octal.
 */
export function parseAddress(text: string): Address | undefined {
  if (text.length > textLengthMax) return undefined;
  const trimmed = text.trim();
  const bracketed = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(trimmed);
  if (bracketed !== null) return parseIPv6(bracketed[1]!);
  const dotted = /^(\d+\.\d+\.\d+\.\d+)(?::\d{1,5})?$/.exec(trimmed);
  return dotted === null ? parseIPv6(trimmed) : parseIPv4(dotted[1]!);
}

function parseIPv4(text: string): Address | undefined {
  const groups = ipv4Groups(text);
  return groups === undefined ? undefined : { version: 4, groups };
}

function ipv4Groups(text: string): number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255))
    return undefined;
  const [a = 0, b = 0, c = 0, d = 0] = parts.map(Number);
  return [a * 256 + b, c * 256 + d];
}

function parseIPv6(text: string): Address | undefined {
  const zone = text.indexOf("%");
  if (zone === 0 || zone === text.length - 1) return undefined;
  const [head = "", tail, ...more] = (zone < 0 ? text : text.slice(0, zone)).split("::");
  if (more.length > 0) return undefined;
  const left = ipv6Groups(head, tail === undefined);
  const right = tail === undefined ? [] : ipv6Groups(tail, true);
  if (left === undefined || right === undefined) return undefined;
  const missing = 8 - left.length - right.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...left, ...Array<number>(missing).fill(0), ...right];
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  return isMapped ? { version: 4, groups: groups.slice(6) } : { version: 6, groups };
}

/** The groups between colons; the last may be an IPv4 address if it is the last of all. */
function ipv6Groups(text: string, isEnd: boolean): number[] | undefined {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    const four = isEnd && index === parts.length - 1 && part.includes(".") ? ipv4Groups(part) : undefined;
    if (four !== undefined) groups.push(...four);
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** Reads `192.0.2.0/24`, `2001:db8::/32` or a single address. Undefined when it is none, or has bits behind its prefix. */
export function parseRange(text: string): AddressRange | undefined {
  const [, address = "", given] = /^([^/]+?)(?:\/(\d{1,3}))?$/.exec(text.trim()) ?? [];
  const base = /[\][]|^[^:]*:\d+$/.test(address) ? undefined : parseAddress(address);
  if (base === undefined) return undefined;
  // The prefix of a mapped address counts from the start of its IPv6 form.
  const shift = base.version === 4 && address.includes(":") ? 96 : 0;
  const prefix = given === undefined ? base.groups.length * 16 : Number(given) - shift;
  if (prefix < 0 || prefix > base.groups.length * 16) return undefined;
  const isAligned = masked(base, prefix).groups.every((group, index) => group === base.groups[index]);
  return isAligned ? { base, prefix } : undefined;
}

/** Whether `address` is in `range`. */
export function isWithin(address: Address, { base, prefix }: AddressRange): boolean {
  if (address.version !== base.version) return false;
  return masked(address, prefix).groups.every((group, index) => group === base.groups[index]);
}

/** The address with all bits behind the prefix cleared. */
export function masked({ version, groups }: Address, prefix: number): Address {
  const mask = (index: number): number => {
    const bits = Math.min(16, Math.max(0, prefix - 16 * index));
    return 0x10000 - 2 ** (16 - bits);
  };
  return { version, groups: groups.map((group, index) => group & mask(index)) };
}

/** The one spelling of an address: dotted, or as RFC 5952 has it. */
export function formatAddress({ version, groups }: Address): string {
  if (version === 4) return groups.flatMap((group) => [group >> 8, group & 255]).join(".");
  const { start, length } = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (length < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  for (const [index, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  }
  return best;
}
