/** `npm run demo`: see `command.ts` for the options and `sync.ts` for the application itself. */

import { demoCommand } from "./command.ts";

process.exitCode = await demoCommand(process.argv.slice(2), "npm run demo --");
