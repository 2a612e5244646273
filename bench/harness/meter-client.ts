/** The handler's side of the meter: one connection of a worker process, calls answered in order. */
import { once } from "node:events";
import { createConnection, type Socket } from "node:net";

/** A connection to the meter. */
export class MeterClient {
  readonly #socket: Socket;
  readonly #waiting: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      for (let i = 0; i < chunk.length; i++) this.#waiting.shift()?.();
    });
    // At the end of a run the meter leaves first; a call cut off then simply never returns, as its process ends too.
    socket.on("error", () => socket.destroy());
  }

  /** Connects to the meter on this machine. */
  static async connect(port: number): Promise<MeterClient> {
    const socket = createConnection({ host: "127.0.0.1", port });
    await once(socket, "connect");
    return new MeterClient(socket);
  }

  /** Tells the meter of one start in `lane`; resolves when it answered. */
  call(lane: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#socket.write(`${lane}\n`);
    });
  }
}
