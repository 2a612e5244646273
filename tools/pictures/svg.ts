import type { Scene } from "./scene.ts";

const width = 760;
const left = 44;
const right = 12;
const rows = { allowed: 40, refused: 58, chartTop: 84, chartBottom: 194 };
const height = 220;
const secondsPerMark = 5;

const ink = { text: "#444444", faint: "#dddddd", allowed: "#0a7d4f", refused: "#c4321c", line: "#2255aa" };

/** A scene as an SVG: the answers on a line of time, and below them what they add up to. */
export function draw(scene: Scene): string {
  const { title, lengthMs, dots, steps, stepsTitle, limit, bound } = scene;
  const x = (atMs: number): string => round(left + (atMs / lengthMs) * (width - left - right));
  const top = Math.max(limit, bound, ...steps.map(({ value }) => value)) * 1.1;
  const y = (value: number): string =>
    round(rows.chartBottom - (value / top) * (rows.chartBottom - rows.chartTop));
  const most = Math.max(...steps.map(({ value }) => value));
  const allowed = dots.filter((dot) => dot.allowed).length;
  const says = `${allowed} allowed, ${dots.length - allowed} refused; ${stepsTitle}: at most ${most}`;
  const parts = [
    text(left, 18, `${title}: ${says}`, 'font-weight="bold"'),
    text(4, rows.allowed + 4, "allowed"),
    text(4, rows.refused + 4, "refused"),
    ...dots.map((dot) => circle(x(dot.atMs), dot.allowed)),
    ...marks(lengthMs, x),
    level(y(limit), `limit ${limit}`, "4 3"),
    ...(bound === limit ? [] : [level(y(bound), `promised ${bound}`, "1 3")]),
    `<path d="${path(scene, x, y)}" fill="none" stroke="${ink.line}" stroke-width="1.5"/>`,
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${title}: ${says}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<g font-family="sans-serif" font-size="11" fill="${ink.text}">`,
    ...parts,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

function path({ steps, lengthMs }: Scene, x: (atMs: number) => string, y: (value: number) => string): string {
  const shown = steps.filter(({ atMs }) => atMs <= lengthMs);
  const [first, ...others] = shown;
  const moves = others.map(({ atMs, value }) => `H${x(atMs)}V${y(value)}`);
  return `M${x(first!.atMs)} ${y(first!.value)}${moves.join("")}H${x(lengthMs)}`;
}

function circle(x: string, allowed: boolean): string {
  const look = allowed ? `fill="${ink.allowed}"` : `fill="none" stroke="${ink.refused}"`;
  return `<circle cx="${x}" cy="${allowed ? rows.allowed : rows.refused}" r="2" ${look}/>`;
}

function level(y: string, name: string, dashes: string): string {
  const line = `<path d="M${left} ${y}H${width - right}" stroke="${ink.text}" stroke-dasharray="${dashes}"/>`;
  return `${line}${text(left + 2, Number(y) - 3, name)}`;
}

function marks(lengthMs: number, x: (atMs: number) => string): string[] {
  const count = Math.floor(lengthMs / 1000 / secondsPerMark) + 1;
  return Array.from({ length: count }, (_, i) => i * secondsPerMark).flatMap((seconds) => {
    const at = x(seconds * 1000);
    const line = `<path d="M${at} ${rows.chartTop}V${rows.chartBottom}" stroke="${ink.faint}"/>`;
    return [line, text(Number(at), rows.chartBottom + 16, `${seconds} s`, 'text-anchor="middle"')];
  });
}

function text(x: number, y: number, content: string, more = ""): string {
  return `<text x="${round(x)}" y="${round(y)}"${more === "" ? "" : ` ${more}`}>${content}</text>`;
}

/** To a tenth of a pixel: less is not seen, and would differ between machines. */
function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}
