/** Arrays as PostgreSQL reads them from text. Written by hand because these sit on the hottest path of enqueue. */

/** An array whose elements need no quoting: numbers, ids, NULLs. */
export function plainArray(items: readonly (string | number | null)[]): string {
  let text = "{";
  for (let i = 0; i < items.length; i++) {
    if (i > 0) text += ",";
    text += items[i] ?? "NULL";
  }
  return `${text}}`;
}

const special = /["\\]/;
const specials = /["\\]/g;

/** An array of texts. */
export function textArray(items: readonly (string | null)[]): string {
  let text = "{";
  for (let i = 0; i < items.length; i++) {
    if (i > 0) text += ",";
    const item = items[i];
    if (item === null || item === undefined) text += "NULL";
    else text += special.test(item) ? `"${item.replace(specials, "\\$&")}"` : `"${item}"`;
  }
  return `${text}}`;
}

/** One element that stands for all if all are the same, else every one: `enqueue` takes both. */
export function uniform<Item>(items: readonly Item[]): readonly Item[] {
  const first = items[0]!;
  for (let i = 1; i < items.length; i++) if (items[i] !== first) return items;
  return [first];
}
