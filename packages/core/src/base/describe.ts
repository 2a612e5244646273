const longest = 80;

/**
 * Describes a value in a few words for an error message: `5`, `"fast"`, `an array`, `{limit: 5, periodMs: 0}`.
 * Never throws, never runs code of the value, cuts long strings, and hides the credentials of URLs.
 */
export function describeValue(value: unknown): string {
  if (typeof value !== "object" || value === null) return describePrimitive(value);
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : `an array of ${value.length}`;
  const prototype: object | null = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return `an instance of ${nameOf(prototype)}`;
  const fields = Object.entries(Object.getOwnPropertyDescriptors(value)).slice(0, 4);
  if (fields.length === 0) return "{}";
  return cut(`{${fields.map(([key, field]) => `${key}: ${describeField(field.value)}`).join(", ")}}`);
}

function describeField(value: unknown): string {
  return typeof value === "object" && value !== null ? "…" : describePrimitive(value);
}

function describePrimitive(value: unknown): string {
  switch (typeof value) {
    case "string":
      return cut(JSON.stringify(value.slice(0, 10 * longest).replace(/:\/\/[^/\s@]*@/g, "://…@")));
    case "bigint":
      return cut(`${value}n`);
    case "function":
      return "a function";
    case "symbol":
      return "a symbol";
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
}

function nameOf(prototype: object): string {
  const maker: unknown = Object.getOwnPropertyDescriptor(prototype, "constructor")?.value;
  return typeof maker === "function" && maker.name !== "" ? maker.name : "a class";
}

function cut(text: string): string {
  return text.length <= longest ? text : `${text.slice(0, longest - 1)}…`;
}
