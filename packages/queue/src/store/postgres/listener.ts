/**
 * The connection that hears NOTIFY. One for all channels, checked out of the pool as soon as someone listens and
 * for as long as anyone does. When it is lost it is replaced with growing pauses, for ever, and then every
 * subscriber is told that messages may have been missed: NOTIFY keeps none for those who were away.
 *
 * States: quiet (no subscriber) → connecting → live → connecting (lost) …; `#maintain` is the only one to change them.
 */
import { SluiceError } from "@sluice/core";
import { deadlinePassed, translateError } from "../database-errors.ts";
import { CallFailure, type Connection, type Connections, type PgNotification } from "./connections.ts";

/** Who listens to a channel. */
interface Subscription {
  readonly channel: string;
  readonly onMessage: (payload: string) => void;
  readonly onLost: () => void;
  /** Settles the promise of `subscribe`; undefined once the subscription has been in force. */
  started: (() => void) | undefined;
}

/** Bounds of the listening connection. */
export interface ListenerSettings {
  /** Milliseconds to connect, and for each LISTEN. */
  readonly deadlineMs: number;
  /** Milliseconds between two proofs that the connection still answers. */
  readonly heartbeatMs: number;
}

/** Pause before the n-th attempt in a row to reconnect: 50 ms doubled up to 2 s, of which the last half is random. */
function pauseMs(failures: number): number {
  const ceiling = Math.min(2000, 50 * 2 ** Math.min(failures, 10));
  return ceiling * (0.5 + Math.random() / 2);
}

/** Keeps subscriptions to NOTIFY in force across lost connections. */
export class Listener {
  readonly #connections: Connections;
  readonly #settings: ListenerSettings;
  readonly #subscriptions = new Set<Subscription>();
  #maintaining: Promise<void> | undefined;
  #live: LiveConnection | undefined;
  #lastError: unknown;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(connections: Connections, settings: ListenerSettings) {
    this.#connections = connections;
    this.#settings = settings;
  }

  /** Resolves when the subscription is in force, to the function that ends it. */
  subscribe(
    channel: string,
    onMessage: (payload: string) => void,
    onLost: () => void,
  ): Promise<() => Promise<void>> {
    return new Promise((resolve, reject) => {
      const subscription: Subscription = { channel, onMessage, onLost, started: undefined };
      const timer = setTimeout(() => {
        void this.#remove(subscription);
        reject(this.#notListening(channel));
      }, this.#settings.deadlineMs);
      subscription.started = () => {
        clearTimeout(timer);
        subscription.started = undefined;
        if (this.#closed) reject(new SluiceError("closed", `LISTEN ${channel}: the database was closed`));
        else resolve(() => this.#remove(subscription));
      };
      this.#subscriptions.add(subscription);
      this.#live?.listenTo(channel).then(
        () => subscription.started?.(),
        // The connection is lost: the maintenance loop sees the same and starts the subscription on the next one.
        () => {},
      );
      this.#maintaining ??= this.#maintain();
    });
  }

  /** Ends all subscriptions and gives the connection back. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const subscription of this.#subscriptions) subscription.started?.();
    this.#subscriptions.clear();
    this.#live?.drop();
    this.#wake?.();
    await this.#maintaining;
  }

  async #remove(subscription: Subscription): Promise<void> {
    if (!this.#subscriptions.delete(subscription)) return;
    if (this.#subscriptions.size === 0) {
      this.#live?.drop();
      this.#wake?.();
      await this.#maintaining;
    } else if (!this.#channels().has(subscription.channel)) {
      await this.#live?.unlistenTo(subscription.channel).catch(() => {});
    }
  }

  async #maintain(): Promise<void> {
    let failures = 0;
    while (this.#wanted()) {
      try {
        const live = await LiveConnection.open(this.#connections, this.#settings, (message) =>
          this.#deliver(message),
        );
        this.#live = live;
        // Whoever stopped listening while it was being opened could not drop it.
        if (this.#wanted()) {
          await this.#listenToAll(live);
          failures = 0;
          await live.lost;
        }
      } catch (error) {
        this.#lastError = error;
        failures += 1;
      }
      this.#live?.drop();
      this.#live = undefined;
      if (this.#wanted()) await this.#pause(pauseMs(failures));
    }
    this.#maintaining = undefined;
  }

  #wanted(): boolean {
    return !this.#closed && this.#subscriptions.size > 0;
  }

  async #listenToAll(live: LiveConnection): Promise<void> {
    const waiting = [...this.#subscriptions];
    for (const channel of this.#channels()) await live.listenTo(channel);
    for (const subscription of waiting) {
      if (subscription.started !== undefined) subscription.started();
      else subscription.onLost();
    }
  }

  #channels(): Set<string> {
    return new Set([...this.#subscriptions].map((subscription) => subscription.channel));
  }

  #deliver(message: PgNotification): void {
    for (const subscription of this.#subscriptions) {
      if (subscription.channel === message.channel) subscription.onMessage(message.payload ?? "");
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #notListening(channel: string): Error {
    const place = { target: this.#connections.target, doing: `LISTEN ${channel}` };
    if (this.#lastError !== undefined) return translateError(this.#lastError, place);
    return deadlinePassed(place, this.#settings.deadlineMs, "no connection became free");
  }
}

/** A listening connection while it lives. */
class LiveConnection {
  /** Resolves when the connection is of no more use. */
  readonly lost: Promise<void>;
  readonly #connections: Connections;
  readonly #connection: Connection;
  readonly #settings: ListenerSettings;
  readonly #channels = new Set<string>();
  readonly #heartbeat: NodeJS.Timeout;
  readonly #onNotification: (message: PgNotification) => void;
  readonly #onGone = (): void => this.drop();
  #markLost: () => void = () => {};
  #dropped = false;
  // The driver takes one query at a time on a connection, so they queue here.
  #last: Promise<unknown> = Promise.resolve();

  static async open(
    connections: Connections,
    settings: ListenerSettings,
    onNotification: (message: PgNotification) => void,
  ): Promise<LiveConnection> {
    const connection = await connections.checkOut(settings.deadlineMs, "LISTEN");
    return new LiveConnection(connections, connection, settings, onNotification);
  }

  private constructor(
    connections: Connections,
    connection: Connection,
    settings: ListenerSettings,
    onNotification: (message: PgNotification) => void,
  ) {
    this.#connections = connections;
    this.#connection = connection;
    this.#settings = settings;
    this.#onNotification = onNotification;
    this.lost = new Promise((resolve) => {
      this.#markLost = resolve;
    });
    connection.client.on("notification", onNotification);
    connection.client.on("error", this.#onGone);
    connection.client.on("end", this.#onGone);
    this.#heartbeat = setInterval(() => {
      this.#run("SELECT 1").catch(() => {});
    }, settings.heartbeatMs);
    this.#heartbeat.unref();
  }

  async listenTo(channel: string): Promise<void> {
    if (this.#channels.has(channel)) return this.#last.then(() => {});
    this.#channels.add(channel);
    await this.#run(`LISTEN ${quoted(channel)}`);
  }

  async unlistenTo(channel: string): Promise<void> {
    this.#channels.delete(channel);
    await this.#run(`UNLISTEN ${quoted(channel)}`);
  }

  /** Closes the connection: it must not go back to the pool while it still listens. */
  drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    clearInterval(this.#heartbeat);
    this.#connection.client.removeListener("notification", this.#onNotification);
    this.#connection.destroy();
    this.#markLost();
  }

  #run(sql: string): Promise<unknown> {
    const call = { doing: sql, text: sql, deadlineMs: this.#settings.deadlineMs };
    const result = this.#last.then(() => this.#connections.runOn(this.#connection, call));
    this.#last = result.catch((failure: unknown) => {
      this.drop();
      throw failure instanceof CallFailure ? failure.reason : failure;
    });
    this.#last.catch(() => {});
    return this.#last;
  }
}

function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}
