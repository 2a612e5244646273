export { distantStore } from "./testing/distant-store.ts";
export { ModelStore } from "./testing/model-store.ts";
export {
  type ConformanceCase,
  type ConformanceOptions,
  type MakeStore,
  storeConformance,
} from "./testing/store-conformance.ts";
export { type VirtualClock, virtualClock } from "./testing/virtual-clock.ts";
