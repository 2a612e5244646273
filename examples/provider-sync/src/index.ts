/** The demo for other programs: `sluice demo` runs it from here. */

export { demoCommand } from "./command.ts";
