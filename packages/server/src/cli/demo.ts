/**
 * `sluice demo`: the example application `@sluice/example-provider-sync`, run from here. The application reads its own
 * options, so that `sluice demo` and `npm run demo` are the same in every respect.
 */

import type { Command } from "commander";

/** Adds the command to the program; `exitWith` takes its exit code. */
export function addDemoCommand(program: Command, exitWith: (code: number) => void): void {
  program
    .command("demo")
    .description("push nine workflows through three rate-limited queues into an API that bans")
    .argument("[options...]", "see sluice demo --help")
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (options: string[]) => {
      // Loaded when asked for: no other command needs it.
      const { demoCommand } = await import("@sluice/example-provider-sync");
      exitWith(await demoCommand(options, "sluice demo"));
    });
}
