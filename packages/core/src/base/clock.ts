/** A pending timer, as {@link Clock.setTimer} returns it. */
export interface Timer {
  /** Forgets the timer. Does nothing when it has fired or was cancelled before. */
  cancel(): void;
  /** Lets the process end although the timer is pending. A clock that keeps no process alive need not have it. */
  unref?(): void;
}

/**
 * Where time comes from. Nothing in Sluice reads the system time or sets a timer except through a clock, so
 * that a test can hold time in its hand (`virtualClock` of `@sluice/core/testing`).
 */
export interface Clock {
  /** The present, in whole microseconds. Never runs backwards within a process. */
  nowUs(): number;
  /** Calls `fn` once, when `delayUs` microseconds have passed on this clock: late by little, never early. */
  setTimer(fn: () => void, delayUs: number): Timer;
}

/** The longest delay `setTimeout` honours; it turns anything above into 1 ms. */
const longestTimeoutMs = 2 ** 31 - 1;

// Kept, because the global is a getter that costs a sixth of a reading.
const monotonic = performance;
const originUs = Math.round(monotonic.timeOrigin * 1000);

function nowUs(): number {
  return originUs + Math.floor(monotonic.now() * 1000);
}

function setTimer(fn: () => void, delayUs: number): Timer {
  const dueUs = nowUs() + delayUs;
  let handle: ReturnType<typeof setTimeout>;
  let keepsAlive = true;
  const arm = (remainingUs: number): void => {
    handle = setTimeout(fire, Math.min(Math.ceil(remainingUs / 1000), longestTimeoutMs));
    if (!keepsAlive) handle.unref?.();
  };
  // The event loop counts in whole milliseconds of a cached reading and may fire up to one early; and a delay
  // beyond 24.8 days takes several turns.
  const fire = (): void => {
    const remainingUs = dueUs - nowUs();
    if (remainingUs > 0) arm(remainingUs);
    else fn();
  };
  arm(Math.max(0, delayUs));
  const unref = (): void => {
    keepsAlive = false;
    // In a browser the handle is a number.
    handle.unref?.();
  };
  return { cancel: () => clearTimeout(handle), unref };
}

/**
 * The monotonic clock of the process, in microseconds since the epoch. It is tied to the wall clock once, when
 * the process starts, and from then on ignores every correction of it: it never steps, and may differ from
 * `Date.now()` by what the wall clock has been set by since.
 */
export const systemClock: Clock = Object.freeze({ nowUs, setTimer });

/** Whether `value` can serve as a clock: for reading options. */
export function isClock(value: unknown): value is Clock {
  if (typeof value !== "object" || value === null) return false;
  const { nowUs, setTimer } = value as Partial<Clock>;
  return typeof nowUs === "function" && typeof setTimer === "function";
}
