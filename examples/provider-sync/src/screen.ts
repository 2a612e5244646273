/**
 * Where the run is told to a person: lines that stay, and on a terminal a few lines below them that are redrawn.
 * Pure apart from `Screen.#write`; the lines themselves come from `table.ts`.
 */

/** What a screen writes to: `process.stdout`, `process.stderr`, or a list in a test. */
export interface ScreenOutput {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Colours a text; without colours it gives the text back. */
export type Paint = (style: keyof typeof styles, text: string) => string;

const styles = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;

/** Paints with ANSI codes when `enabled`. */
export function painter(enabled: boolean): Paint {
  if (!enabled) return (_style, text) => text;
  return (style, text) => `\u001b[${styles[style][0]}m${text}\u001b[${styles[style][1]}m`;
}

const columnsMin = 80;

/** Plain lines, and on a terminal a status below them. */
export class Screen {
  /** True on a terminal: the status is shown. */
  readonly live: boolean;
  readonly paint: Paint;
  readonly #output: ScreenOutput;
  #status: readonly string[] = [];

  /** `environment`: `NO_COLOR` turns colours off, `TERM=dumb` the status too. */
  constructor(output: ScreenOutput, environment: Readonly<Record<string, string | undefined>>) {
    this.#output = output;
    // On a narrower terminal the lines of the status would wrap, and could not be taken away again.
    const wide = (output.columns ?? columnsMin) >= columnsMin;
    this.live = output.isTTY === true && environment["TERM"] !== "dumb" && wide;
    this.paint = painter(this.live && (environment["NO_COLOR"] ?? "") === "");
  }

  /** Adds lines that stay. */
  print(...lines: readonly string[]): void {
    this.#write(lines);
  }

  /** Replaces the status; nothing on anything but a terminal. No lines take it away. */
  showStatus(...lines: readonly string[]): void {
    if (!this.live) return;
    const before = this.#status.length;
    this.#status = lines;
    this.#output.write(`${eraseLines(before)}${textOf(lines)}`);
  }

  #write(lines: readonly string[]): void {
    this.#output.write(`${eraseLines(this.#status.length)}${textOf(lines)}${textOf(this.#status)}`);
  }
}

function textOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}

/** Moves the cursor up over the status and clears from there to the end of the screen. */
function eraseLines(count: number): string {
  return count === 0 ? "" : `\u001b[${count}F\u001b[J`;
}
