import { assert } from "@sluice/core";
import type { Statement } from "./database.ts";

/** PostgreSQL cuts longer identifiers, so that two long names could become one. */
const nameBytesMax = 63;

/** Makes sure that a name means one text, within one database: prepared statements are found by name alone. */
export class StatementNames {
  readonly #texts = new Map<string, string>();

  /** Throws `invariant_broken` if the name is too long or was used for another text. */
  check(statement: Statement): void {
    const known = this.#texts.get(statement.name);
    if (known === statement.text) return;
    assert(known === undefined, `statement ${statement.name}: the name is taken by another text`);
    const bytes = Buffer.byteLength(statement.name);
    assert(
      bytes > 0 && bytes <= nameBytesMax,
      `statement name of ${bytes} bytes: 1 to ${nameBytesMax} are allowed`,
    );
    this.#texts.set(statement.name, statement.text);
  }
}
