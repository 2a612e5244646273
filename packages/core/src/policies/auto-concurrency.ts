/**
 * Finds how many calls at once serve a caller best, by measuring them: as many as make it faster, and no more. In the line of
 * TCP Vegas (Brakmo & Peterson, 1995) and of the gradient limits of Netflix' concurrency-limits (2018).
 *
 * Time is cut into windows. In each, once the calls from before it have ended, it takes the mean latency L and the throughput X.
 * Up to some concurrency, the knee, L stays at its floor F and X grows; beyond it calls only stand in queue, L grows in proportion
 * and X stays. So, from one window to the next:
 *
 *     concurrency ← concurrency · clamp(1.1 · F / L, ½, 1) + ½·√concurrency
 *
 * which rests a little above the knee. Until the first sign of a queue it doubles instead. Three things keep it honest:
 *
 * - A quarter more that brought less than a fifth of the throughput it should have is taken back.
 * - F falls with what is measured, and is measured anew for one window at half the concurrency: every 32 windows, and when going
 *   down has cost more than half of the throughput that it would below the knee. So a server that has become slower is not
 *   taken for one with a queue.
 * - A window in which less was running than allowed, because a limit or the source held calls back, changes nothing.
 *
 * A window that saw more than a tenth of its calls fail takes the concurrency down by 30 %.
 */

/** The bounds of an {@link AutoConcurrency}. */
export interface AutoConcurrencyBounds {
  readonly min: number;
  readonly max: number;
}

const firstGuess = 4;
const samplesMin = 8;
/** A window waits for the mean to be this certain (its standard error, as a part of it), or for four times the samples. */
const certainty = 0.1;
const tolerance = 1.1;
const floorEvery = 32;

interface Window {
  /** How many calls from before it are still running; while there are any, nothing is counted. */
  old: number;
  countedFromUs: number;
  count: number;
  failed: number;
  sumUs: number;
  /** Sum of squares. */
  sumUs2: number;
  /** The time integral of the calls running, and up to when. */
  runningUs: number;
  runningToUs: number;
}

/** A call under way. */
export interface StartedCall {
  readonly startUs: number;
  /** The window it began in. */
  readonly window: object;
}

/** The controller. It has no clock: who runs the calls tells it the time. */
export class AutoConcurrency {
  readonly #bounds: AutoConcurrencyBounds;
  #concurrency: number;
  #running = 0;
  #window: Window | undefined;
  #isDoubling = true;
  #floorUs = Infinity;
  #windowsToFloor = floorEvery;
  /** What to return to after the floor was measured. */
  #beforeDip: number | undefined;
  #last: { readonly concurrency: number; readonly throughput: number } | undefined;

  constructor(bounds: AutoConcurrencyBounds) {
    this.#bounds = bounds;
    this.#concurrency = this.#bounded(firstGuess);
  }

  /** How many calls should run at once. */
  get concurrency(): number {
    return Math.round(this.#concurrency);
  }

  /** A call begins. */
  start(nowUs: number): StartedCall {
    this.#window ??= openWindow(nowUs, 0);
    this.#integrate(this.#window, nowUs);
    this.#running++;
    return { startUs: nowUs, window: this.#window };
  }

  /** It has ended. */
  end(call: StartedCall, nowUs: number, isFailed: boolean): void {
    const window = this.#window!;
    this.#integrate(window, nowUs);
    this.#running--;
    if (window.old > 0) {
      if (call.window !== window) window.old--;
      if (window.old === 0) window.countedFromUs = window.runningToUs = nowUs;
      return;
    }
    const latencyUs = Math.max(1, nowUs - call.startUs);
    window.count++;
    window.sumUs += latencyUs;
    window.sumUs2 += latencyUs ** 2;
    if (isFailed) window.failed++;
    if (!isCertain(window, this.concurrency)) return;
    this.#conclude(window, nowUs);
    this.#window = openWindow(nowUs, this.#running);
  }

  #integrate(window: Window, nowUs: number): void {
    if (window.old === 0) window.runningUs += this.#running * Math.max(0, nowUs - window.runningToUs);
    window.runningToUs = nowUs;
  }

  #conclude(window: Window, nowUs: number): void {
    const latencyUs = window.sumUs / window.count;
    if (this.#beforeDip !== undefined) {
      this.#floorUs = latencyUs;
      this.#concurrency = this.#beforeDip;
      this.#beforeDip = undefined;
      this.#last = undefined;
      return;
    }
    if (window.failed > window.count / 10) {
      this.#isDoubling = false;
      this.#last = undefined;
      this.#concurrency = this.#bounded(this.#concurrency * 0.7);
      return;
    }
    const countedUs = Math.max(1, nowUs - window.countedFromUs);
    const running = window.runningUs / countedUs;
    if (running < 0.75 * this.concurrency) return;
    // By Little's law: smoother than counting ends, which come in bursts.
    this.#concurrency = this.#next(latencyUs, running / latencyUs);
    this.#windowsToFloor--;
    if (this.#windowsToFloor > 0 || this.#concurrency < 2) return;
    this.#windowsToFloor = floorEvery;
    this.#beforeDip = this.#concurrency;
    this.#concurrency = this.#bounded(this.#concurrency / 2);
  }

  #next(latencyUs: number, throughput: number): number {
    // Downwards by part only: the least of many uncertain means is below what any of them means.
    if (this.#floorUs === Infinity) this.#floorUs = latencyUs;
    else if (latencyUs < this.#floorUs) this.#floorUs += 0.3 * (latencyUs - this.#floorUs);

    const current = this.#concurrency;
    const before = this.#last ?? { concurrency: current, throughput };
    const step = current / before.concurrency;
    const isDecisive = step >= 1.25 || step <= 0.8;
    this.#last = isDecisive ? { concurrency: current, throughput } : before;
    if (isDecisive) {
      // What part of the step the throughput has followed: 1 below the knee, 0 beyond it.
      const followed = (throughput / before.throughput - 1) / (step - 1);
      if (step > 1 && followed < 0.2) {
        this.#isDoubling = false;
        this.#last = undefined;
        return before.concurrency;
      }
      if (step < 1 && followed > 0.5) this.#windowsToFloor = 0;
    }
    const gradient = Math.min(1, Math.max(0.5, (tolerance * this.#floorUs) / latencyUs));
    if (gradient < 1) this.#isDoubling = false;
    const next = this.#isDoubling ? 2 * current : current * gradient + 0.5 * Math.sqrt(current);
    return this.#bounded(next);
  }

  #bounded(concurrency: number): number {
    return Math.min(this.#bounds.max, Math.max(this.#bounds.min, concurrency));
  }
}

function openWindow(nowUs: number, old: number): Window {
  const counts = { count: 0, failed: 0, sumUs: 0, sumUs2: 0, runningUs: 0 };
  return { old, countedFromUs: nowUs, runningToUs: nowUs, ...counts };
}

function isCertain({ count, sumUs, sumUs2 }: Window, concurrency: number): boolean {
  const enough = Math.max(samplesMin, concurrency);
  if (count < enough) return false;
  const mean = sumUs / count;
  const variance = Math.max(0, sumUs2 / count - mean ** 2);
  return count >= 4 * enough || Math.sqrt(variance / count) <= certainty * mean;
}
