/** Who listens to which channel of the embedded database. */

interface Subscription {
  readonly onMessage: (payload: string) => void;
  readonly onLost: () => void;
}

/** Subscriptions by channel. Telling the engine is the caller's business. */
export class Subscriptions {
  readonly #byChannel = new Map<string, Set<Subscription>>();

  /** The channels with at least one subscriber. */
  get channels(): string[] {
    return [...this.#byChannel.keys()];
  }

  /** Adds a subscriber. The function returned removes it and says whether it was the last of its channel. */
  add(channel: string, onMessage: (payload: string) => void, onLost: () => void): () => boolean {
    const subscription: Subscription = { onMessage, onLost };
    const subscribers = this.#byChannel.get(channel) ?? new Set();
    this.#byChannel.set(channel, subscribers.add(subscription));
    return () => {
      if (!subscribers.delete(subscription) || subscribers.size > 0) return false;
      return this.#byChannel.delete(channel);
    };
  }

  /** Hands a message to everyone on its channel. */
  deliver(channel: string, payload: string): void {
    for (const { onMessage } of this.#byChannel.get(channel) ?? []) onMessage(payload);
  }

  /** Tells everyone that messages may have been missed. */
  tellLost(): void {
    for (const subscribers of this.#byChannel.values()) {
      for (const { onLost } of subscribers) onLost();
    }
  }

  /** Forgets everyone. */
  clear(): void {
    this.#byChannel.clear();
  }
}
