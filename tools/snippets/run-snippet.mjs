/**
 * Runs one program of a document to its end: `node run-snippet.mjs file.ts`. The end is that of its last line: servers and
 * connections that it leaves open are none of its concern, and would keep the process alive.
 */
import { pathToFileURL } from "node:url";

await import(pathToFileURL(process.argv[2]).href);
// A turn later, so that a rejection which nobody has handled ends the process first, and as a failure.
setImmediate(() => process.exit());
