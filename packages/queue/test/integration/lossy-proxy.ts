import { connect, createServer, type Server, type Socket } from "node:net";

/** When to cut a connection: the client asked so, or the server answered so. */
export interface Cut {
  readonly request?: string;
  readonly answer?: string;
}

/** Passes connections on to a server, and can lose an answer: the server has done its work, the client never hears of it. */
export class LossyProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut: Cut | undefined;
  /** How many answers were lost. */
  lost = 0;

  private constructor(target: URL) {
    this.#server = createServer((client) => this.#join(client, target));
  }

  /** Listens on loopback, on a port of its own. */
  static async to(url: string): Promise<LossyProxy> {
    const proxy = new LossyProxy(new URL(url));
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  /** The target's URL, through here. */
  url(target: string): string {
    const url = new URL(target);
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the proxy does not listen");
    url.hostname = "127.0.0.1";
    url.port = String(address.port);
    return url.href;
  }

  /** Loses the next answer that fits, and its connection with it. */
  loseOne(cut: Cut): void {
    this.#cut = cut;
  }

  /** Breaks all connections. */
  breakAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.breakAll();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client: Socket, target: URL): void {
    const server = connect(Number(target.port), target.hostname);
    let doomed = false;
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", end);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    client.on("data", (chunk) => {
      if (this.#cut?.request !== undefined && chunk.includes(this.#cut.request)) {
        this.#cut = undefined;
        doomed = true;
      }
      server.write(chunk);
    });
    server.on("data", (chunk) => {
      if (this.#cut?.answer !== undefined && chunk.includes(this.#cut.answer)) {
        this.#cut = undefined;
        doomed = true;
      }
      if (!doomed) return void client.write(chunk);
      this.lost++;
      end();
    });
  }
}
