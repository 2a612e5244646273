/**
 * How columns of a result are read from their text. The port lets four types out (`database.ts`), so a switch does
 * what the drivers' own tables of parsers do, without dates, numerics and arrays that never come.
 */
export type TextParser = (text: string) => unknown;

const asIs: TextParser = (text) => text;
const asNumber: TextParser = (text) => Number(text);
const asBoolean: TextParser = (text) => text === "t";

/** The parser for columns of the type with this object id. */
export function textParserOf(oid: number): TextParser {
  switch (oid) {
    case 16: // bool
      return asBoolean;
    case 21: // int2
    case 23: // int4
    case 700: // float4
    case 701: // float8
      return asNumber;
    default:
      return asIs;
  }
}
