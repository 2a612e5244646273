/** Draws the pictures of the guides anew: `node --conditions=@sluice/source tools/pictures/draw.ts`. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { scenes } from "./scene.ts";
import { draw } from "./svg.ts";

const folder = join(import.meta.dirname, "..", "..", "docs", "pictures");

mkdirSync(folder, { recursive: true });
for (const [name, scene] of Object.entries(scenes())) writeFileSync(join(folder, `${name}.svg`), draw(scene));
