/** Takes the error of a listener, and the name of the event it was listening to. */
export type ListenerErrorSink = (error: unknown, event: string) => void;

type Listener<Event> = (event: Event) => void;

/**
 * A minimal typed emitter: `Events` maps the name of an event to what its listeners receive.
 *
 * A listener that throws disturbs neither the emitting code nor the other listeners. Its error goes to `onListenerError`,
 * by default to the process as an uncaught exception, like that of any other callback.
 *
 * @example
 *     const events = new Emitter<{ start: { taskId: string } }>();
 *     const stop = events.on("start", ({ taskId }) => console.log(taskId));
 *     events.emit("start", { taskId: "t1" });
 *     stop();
 */
export class Emitter<Events extends object> {
  // An array per name that is replaced, never changed: a listener added or removed during an emit counts from the next.
  readonly #listeners = new Map<keyof Events, readonly Listener<never>[]>();
  readonly #onListenerError: ListenerErrorSink;

  constructor(onListenerError: ListenerErrorSink = throwLater) {
    this.#onListenerError = onListenerError;
  }

  /** Adds a listener and returns the function that removes it again. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    // A wrapper of its own, so that the same function added twice is removed one at a time.
    const own: Listener<Events[Name]> = (event) => listener(event);
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), own]);
    return () => {
      const rest = (this.#listeners.get(name) ?? []).filter((other) => other !== own);
      if (rest.length > 0) this.#listeners.set(name, rest);
      else this.#listeners.delete(name);
    };
  }

  /** Calls the listeners in the order they were added. Returns whether there was one. Never throws. */
  emit<Name extends keyof Events>(name: Name, event: Events[Name]): boolean {
    const listeners = this.#listeners.get(name) as readonly Listener<Events[Name]>[] | undefined;
    if (listeners === undefined) return false;
    for (const listener of listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#onListenerError(error, String(name));
      }
    }
    return true;
  }

  /** Whether anybody listens, for events that are costly to describe. */
  has(name: keyof Events): boolean {
    return this.#listeners.has(name);
  }
}

function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
