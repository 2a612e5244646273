/**
 * A reader of Structured Field Values for HTTP (RFC 9651): lists and dictionaries, which is what rate limit fields are
 * made of. Strict as the RFC demands: a field with one fault is a field that was not sent.
 */

/** A value without its parameters. Strings and tokens are told apart, since `"10"` is a name and `10` a number. */
export type BareItem =
  | { readonly kind: "integer" | "decimal" | "date"; readonly value: number }
  | { readonly kind: "string" | "token" | "display"; readonly value: string }
  | { readonly kind: "bytes"; readonly value: Uint8Array }
  | { readonly kind: "boolean"; readonly value: boolean };

/** The parameters of an item by name; of a name given twice the last counts. */
export type Parameters = ReadonlyMap<string, BareItem>;

/** A value with its parameters. */
export interface FieldItem {
  readonly item: BareItem;
  readonly parameters: Parameters;
}

/** A list of values in parentheses, with parameters of its own. */
export interface InnerList {
  readonly items: readonly FieldItem[];
  readonly parameters: Parameters;
}

/** What lists and dictionaries are made of. */
export type FieldMember = FieldItem | InnerList;

/** The longest field that is read, in UTF-16 units: header blocks of servers in use are smaller as a whole. */
const fieldLengthMax = 16_384;

/** Reads a List. Several field lines are to be joined with commas first. Undefined when it is not one; never throws. */
export function parseList(text: string): readonly FieldMember[] | undefined {
  return parseWhole(text, (scanner) => scanner.list());
}

/** Reads a Dictionary; of a name given twice the last counts. Undefined when it is not one; never throws. */
export function parseDictionary(text: string): ReadonlyMap<string, FieldMember> | undefined {
  return parseWhole(text, (scanner) => scanner.dictionary());
}

/** Thrown and caught within this module. */
class Malformed extends Error {}

function parseWhole<Result>(text: string, read: (scanner: Scanner) => Result): Result | undefined {
  if (text.length > fieldLengthMax) return undefined;
  const scanner = new Scanner(text);
  try {
    scanner.skip(/ */y);
    const result = read(scanner);
    scanner.skip(/ */y);
    return scanner.isAtEnd ? result : undefined;
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

const patterns = {
  key: /[a-z*][a-z0-9_\-.*]*/y,
  number: /-?\d+(?:\.\d+)?/y,
  string: /"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"/y,
  token: /[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*/y,
  bytes: /:([A-Za-z0-9+/=]*):/y,
  boolean: /\?([01])/y,
  date: /@(-?\d{1,15})(?![\d.])/y,
  display: /%"((?:[\x20-\x21\x23-\x24\x26-\x7e]|%[0-9a-f]{2})*)"/y,
};

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#text.length;
  }

  list(): FieldMember[] {
    const members: FieldMember[] = [];
    if (this.isAtEnd) return members;
    do members.push(this.#member());
    while (this.#comma());
    return members;
  }

  dictionary(): Map<string, FieldMember> {
    const members = new Map<string, FieldMember>();
    if (this.isAtEnd) return members;
    do {
      const key = this.#take(patterns.key)[0];
      const member = this.#eat("=")
        ? this.#member()
        : { item: { kind: "boolean", value: true } as const, parameters: this.#parameters() };
      members.set(key, member);
    } while (this.#comma());
    return members;
  }

  skip(pattern: RegExp): void {
    this.#match(pattern);
  }

  /** Whether another member follows; if there is none behind the comma, reading it will find the fault. */
  #comma(): boolean {
    const before = this.#at;
    this.skip(/[ \t]*/y);
    if (!this.#eat(",")) {
      this.#at = before;
      return false;
    }
    this.skip(/[ \t]*/y);
    return true;
  }

  #member(): FieldMember {
    if (!this.#eat("(")) return this.#item();
    const items: FieldItem[] = [];
    for (;;) {
      this.skip(/ */y);
      if (this.#eat(")")) return { items, parameters: this.#parameters() };
      items.push(this.#item());
      if (this.#text[this.#at] !== " " && this.#text[this.#at] !== ")") throw new Malformed();
    }
  }

  #item(): FieldItem {
    return { item: this.#bareItem(), parameters: this.#parameters() };
  }

  #parameters(): Parameters {
    const parameters = new Map<string, BareItem>();
    while (this.#eat(";")) {
      this.skip(/ */y);
      const key = this.#take(patterns.key)[0];
      parameters.set(key, this.#eat("=") ? this.#bareItem() : { kind: "boolean", value: true });
    }
    return parameters;
  }

  #bareItem(): BareItem {
    switch (this.#text[this.#at]) {
      case '"':
        return { kind: "string", value: this.#take(patterns.string)[1]!.replace(/\\(["\\])/g, "$1") };
      case ":":
        return { kind: "bytes", value: bytesOf(this.#take(patterns.bytes)[1]!) };
      case "?":
        return { kind: "boolean", value: this.#take(patterns.boolean)[1] === "1" };
      case "@":
        return { kind: "date", value: Number(this.#take(patterns.date)[1]) };
      case "%":
        return { kind: "display", value: displayOf(this.#take(patterns.display)[1]!) };
    }
    const number = this.#match(patterns.number);
    if (number !== undefined) return this.#number(number[0]);
    return { kind: "token", value: this.#take(patterns.token)[0] };
  }

  #number(text: string): BareItem {
    const [whole = "", fraction] = text.replace("-", "").split(".");
    const fits = fraction === undefined ? whole.length <= 15 : whole.length <= 12 && fraction.length <= 3;
    // "1." and "1.2.3" leave a dot behind that no grammar takes up; it must not pass for the end of an item.
    if (!fits || this.#text[this.#at] === ".") throw new Malformed();
    return { kind: fraction === undefined ? "integer" : "decimal", value: Number(text) };
  }

  #take(pattern: RegExp): RegExpExecArray {
    const found = this.#match(pattern);
    if (found === undefined) throw new Malformed();
    return found;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return undefined;
    this.#at += found[0].length;
    return found;
  }

  #eat(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }
}

function bytesOf(base64: string): Uint8Array {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    throw new Malformed();
  }
}

function displayOf(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Malformed();
  }
}
