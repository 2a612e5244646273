/** The suite that every engine of the queue must pass. */
import { describe } from "vitest";
import type { EngineUnderTest } from "./engine.ts";
import { controlCases } from "./queue/control.ts";
import { enqueueCases } from "./queue/enqueue.ts";
import { inputCases } from "./queue/input.ts";
import { limitCases } from "./queue/limits.ts";
import { maintenanceCases } from "./queue/maintenance.ts";
import { orderCases } from "./queue/order.ts";
import { outcomeCases } from "./queue/outcomes.ts";
import { stepCases } from "./queue/steps.ts";
import { stopCases } from "./queue/stop.ts";
import { suspectCases } from "./queue/suspects.ts";
import { Stage } from "./stage.ts";

/** Declares the suite for one engine. Call it at the top level of a test file. */
export function queueConformance(engine: EngineUnderTest): void {
  describe(`the queue on ${engine.name}`, () => {
    const stage = new Stage(engine);
    enqueueCases(stage);
    inputCases(stage);
    orderCases(stage);
    limitCases(stage);
    outcomeCases(stage);
    stepCases(stage);
    controlCases(stage);
    stopCases(stage);
    maintenanceCases(stage);
    suspectCases(stage);
  });
}
