/** A parent for `stand-in.test.ts` to kill: starts the stand-in process, prints its address, stays. */

import { startStandInProcess } from "../src/child-processes.ts";

const standIn = await startStandInProcess({ arrival: () => {}, cut: () => {} });
process.stdout.write(`${standIn.url}\n`);
