/** All checks over one history. */
import { checkConcurrency, checkFences, checkLeases, checkStepFences, checkTokens } from "./claims.ts";
import type { History } from "./history.ts";
import { lifetimesOf } from "./lifetimes.ts";
import { checkLiveness } from "./liveness.ts";
import { checkOrder } from "./order.ts";
import { checkRates } from "./rates.ts";
import { Report } from "./report.ts";
import { checkSteps } from "./steps.ts";
import { checkAccounts, checkCompletions, checkEnds, checkEnqueues, checkStates } from "./tasks.ts";

/** Judges a history. Never throws for what the system under test did wrong; that is what the report says. */
export function checkHistory(history: History): Report {
  const report = new Report();
  const lifetimes = lifetimesOf(history);
  const faults = (what: string): number => history.faults.filter((fault) => fault.what === what).length;
  report.figures.set("tasks", history.tasks.length);
  report.figures.set("starts", history.runs.length);
  report.figures.set("kills", faults("kill"));
  report.figures.set("stops", faults("stop"));
  report.figures.set("restarts", faults("restart"));
  checkRates(history, report);
  checkEnqueues(history, report);
  checkEnds(history, lifetimes, report);
  checkCompletions(history, lifetimes, report);
  checkFences(history, lifetimes, report);
  checkStepFences(history, lifetimes, report);
  checkLeases(lifetimes, report);
  checkTokens(history, report);
  checkConcurrency(history, lifetimes, report);
  checkOrder(history, lifetimes, report);
  checkLiveness(history, lifetimes, report);
  checkStates(history, report);
  checkSteps(history, lifetimes, report);
  checkAccounts(history, report);
  return report;
}
