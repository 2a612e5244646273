import { embedded } from "../../src/embedded.ts";
import { claimConformance } from "./claim.ts";

claimConformance("embedded", "sluice", () => embedded("memory://").open());
