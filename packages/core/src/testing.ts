export { type ConformanceCase, type MakeStore, storeConformance } from "./testing/store-conformance.ts";
export { type VirtualClock, virtualClock } from "./testing/virtual-clock.ts";
