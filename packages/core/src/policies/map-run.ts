/**
 * One run of `mapLimited`: takes items from the source while there is room, works on them, and hands out the results.
 *
 *     source ─► taken ─► admitted by the limit ─► called ─► finished ─► handed out, in order if asked
 *                └──────── at most `concurrency` ───┘         └─ at most `buffer` ─┘
 *
 * It ends when the source is empty and all is handed out, at the first error, or when the consumer leaves. From then on nothing
 * is started, and what is still under way is ignored.
 */
import type { Clock } from "../base/clock.ts";
import { SluiceError } from "../base/errors.ts";
import type { StartedCall } from "./auto-concurrency.ts";
import { releaseHeld } from "./call-policy.ts";

/** What the function of `mapLimited` is given beside the item. */
export interface MapContext {
  /** The place of the item in the source, from 0. */
  readonly index: number;
  /** Fires when the result is no longer wanted: another item failed, the caller gave up. */
  readonly signal: AbortSignal;
}

/** How far a `mapLimited` is. */
export interface MapProgress {
  /** How many items have ended, well or not. */
  readonly done: number;
  /** How many of them failed; above 0 only with `errors: "collect"`. */
  readonly failed: number;
  /** How many are being worked on now. */
  readonly running: number;
  /** How many may be worked on at once now. */
  readonly concurrency: number;
  /** How many there are in all; undefined for a source that does not say. */
  readonly total: number | undefined;
}

/** How many items may be worked on, and who wants to know how long they took. */
export interface Pace {
  readonly concurrency: number;
  start(nowUs: number): StartedCall;
  end(call: StartedCall, nowUs: number, isFailed: boolean): void;
}

/** What a run is made of. */
export interface MapRunOptions<Item, Result> {
  readonly source: () => Iterator<unknown> | AsyncIterator<unknown>;
  readonly total: number | undefined;
  readonly call: (item: Item, context: MapContext) => unknown;
  /** Waits for the limit; its result may hold slots. */
  readonly admission: ((item: Item, signal: AbortSignal) => Promise<object>) | undefined;
  readonly pace: Pace;
  readonly clock: Clock;
  readonly order: "input" | "completion";
  readonly errors: "abort" | "collect";
  readonly buffer: number | undefined;
  readonly onProgress: ((progress: MapProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  /** Only for the compiler: what comes out. */
  readonly result?: Result;
}

/** One run. To be used once, by {@link iterate} or {@link collect}. */
export class MapRun<Item, Result> {
  readonly #options: MapRunOptions<Item, Result>;
  readonly #abort = new AbortController();
  #source: Iterator<unknown> | AsyncIterator<unknown> | undefined;
  #buffer = 0;
  #isReading = false;
  #isEmpty = false;
  #taken = 0;
  /** Taken and not finished. */
  #active = 0;
  #running = 0;
  #done = 0;
  #failed = 0;
  /** Finished, by their place in the order in which they will be handed out. */
  readonly #finished = new Map<number, Result>();
  #finishedCount = 0;
  #handedOut = 0;
  #end: { readonly error: unknown } | undefined;
  /** Wakes the consumer. */
  #wake: () => void = () => {};

  constructor(options: MapRunOptions<Item, Result>) {
    this.#options = options;
  }

  /** The results as they are handed out. */
  async *iterate(): AsyncGenerator<Result, void, undefined> {
    this.#begin(this.#options.buffer);
    try {
      for (;;) {
        while (this.#finished.has(this.#handedOut)) {
          const result = this.#finished.get(this.#handedOut)!;
          this.#finished.delete(this.#handedOut++);
          this.#fill();
          yield result;
        }
        if (this.#end !== undefined) throw this.#end.error;
        if (this.#isEmpty && this.#active === 0) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.#finish();
    }
  }

  /** All results at once. There is no consumer to wait for, so none are held back. */
  async collect(): Promise<Result[]> {
    this.#begin(Infinity);
    try {
      while (this.#end === undefined && !(this.#isEmpty && this.#active === 0)) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (this.#end !== undefined) throw this.#end.error;
      return Array.from({ length: this.#finished.size }, (_, place) => this.#finished.get(place)!);
    } finally {
      this.#finish();
    }
  }

  #begin(buffer: number | undefined): void {
    if (this.#source !== undefined)
      throw new SluiceError("closed", "mapLimited: its results were asked for before; they come once");
    const { signal, source } = this.#options;
    signal?.throwIfAborted();
    this.#source = source();
    this.#buffer = buffer ?? Number.NaN;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#fill();
  }

  readonly #onAbort = (): void => this.#fail(this.#options.signal!.reason);

  /** Takes items while there is room for them and for their results. */
  #fill(): void {
    while (this.#hasRoom()) {
      try {
        this.#isReading = true;
        const step = this.#source!.next();
        if (isLater(step)) {
          void step.then(
            (taken) => this.#onRead(taken),
            (error: unknown) => this.#onReadFailed(error),
          );
          return;
        }
        this.#take(step);
      } catch (error) {
        this.#onReadFailed(error);
      }
    }
  }

  #hasRoom(): boolean {
    if (this.#isReading || this.#isEmpty || this.#end !== undefined) return false;
    const { concurrency } = this.#options.pace;
    const waiting = this.#finished.size;
    const buffer = Number.isNaN(this.#buffer) ? concurrency : this.#buffer;
    return this.#active < concurrency && this.#active + waiting < concurrency + buffer;
  }

  #onRead(step: IteratorResult<unknown>): void {
    this.#take(step);
    this.#fill();
    this.#wake();
  }

  #onReadFailed(error: unknown): void {
    this.#isReading = false;
    // A source that threw is over; closing it would run code that does not expect it.
    this.#isEmpty = true;
    this.#fail(error);
  }

  #take(step: IteratorResult<unknown>): void {
    this.#isReading = false;
    if (step.done === true) {
      this.#isEmpty = true;
      return;
    }
    if (this.#end !== undefined) return;
    this.#active++;
    void this.#work(step.value as Item | PromiseLike<Item>, this.#taken++);
  }

  async #work(given: Item | PromiseLike<Item>, index: number): Promise<void> {
    const { admission, call } = this.#options;
    const { signal } = this.#abort;
    let outcome: PromiseSettledResult<unknown>;
    let decision: object | undefined;
    try {
      const item = await given;
      if (admission !== undefined) decision = await admission(item, signal);
      // Admitted as it ended: what was debited is lost, but nothing starts any more.
      if (this.#end !== undefined) throw this.#end.error;
      outcome = { status: "fulfilled", value: await this.#timed(() => call(item, { index, signal })) };
    } catch (error) {
      outcome = { status: "rejected", reason: error };
    }
    try {
      if (decision !== undefined) await releaseHeld(decision);
    } catch (error) {
      this.#fail(error);
    }
    this.#onEnd(outcome, index);
  }

  async #timed(call: () => unknown): Promise<unknown> {
    const { pace, clock } = this.#options;
    let isFailed = true;
    this.#running++;
    const started = pace.start(clock.nowUs());
    try {
      const value = await call();
      isFailed = false;
      return value;
    } finally {
      this.#running--;
      pace.end(started, clock.nowUs(), isFailed);
    }
  }

  #onEnd(outcome: PromiseSettledResult<unknown>, index: number): void {
    this.#active--;
    if (this.#end !== undefined) return;
    const { errors, order } = this.#options;
    this.#done++;
    if (outcome.status === "rejected") this.#failed++;
    this.#tell();
    if (errors === "abort" && outcome.status === "rejected") {
      this.#fail(outcome.reason);
      return;
    }
    const result = errors === "collect" || outcome.status === "rejected" ? outcome : outcome.value;
    this.#finished.set(order === "input" ? index : this.#finishedCount++, result as Result);
    this.#fill();
    this.#wake();
  }

  #tell(): void {
    const { onProgress, pace, total } = this.#options;
    try {
      onProgress?.({
        done: this.#done,
        failed: this.#failed,
        running: this.#running,
        concurrency: pace.concurrency,
        total,
      });
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#end ??= { error };
    this.#abort.abort(error);
    this.#wake();
  }

  /** Lets go of everything; without effect on what has come to its own end. */
  #finish(): void {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#end ??= { error: new SluiceError("closed", "mapLimited: its consumer has left") };
    if (!this.#isEmpty || this.#active > 0) this.#abort.abort(this.#end.error);
    if (this.#isEmpty) return;
    this.#isEmpty = true;
    // Not awaited, and its failure ignored: the source of somebody who left has nobody to tell.
    void Promise.resolve()
      .then(() => this.#source!.return?.())
      .catch(() => {});
  }
}

function isLater(
  step: IteratorResult<unknown> | Promise<IteratorResult<unknown>>,
): step is Promise<IteratorResult<unknown>> {
  return typeof (step as Partial<Promise<unknown>>).then === "function";
}
