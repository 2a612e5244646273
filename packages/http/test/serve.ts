import { once } from "node:events";
import { createServer, request as open, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

/** A server of a test, on a port of its own. */
export interface Served {
  readonly url: string;
  readonly port: number;
  readonly server: Server;
  /** The status and headers of a GET, its body as text. */
  get(path?: string, headers?: Record<string, string>): Promise<Answered>;
  /** Like `get`, with header lines exactly as they are given, one name as often as one likes. */
  raw(lines: readonly string[], path?: string): Promise<{ status: number; headers: Record<string, unknown> }>;
}

/** What a server answered. */
export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** Listens until the test ends. */
export async function serve(listener: RequestListener): Promise<Served> {
  return served(createServer(listener));
}

/** The same for a server that is there already. */
export async function served(server: Server): Promise<Served> {
  if (!server.listening) {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  }
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    port,
    server,
    async get(path = "/", headers = {}) {
      const response = await fetch(url + path, { headers });
      return { status: response.status, headers: response.headers, text: await response.text() };
    },
    raw: (lines, path = "/") =>
      new Promise((resolve, reject) => {
        const sent = open({
          host: "127.0.0.1",
          port,
          path,
          headers: ["Host", "localhost", ...lines] as never,
        });
        sent.on("error", reject);
        sent.on("response", (response) => {
          response.resume();
          response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers }));
        });
        sent.end();
      }),
  };
}

/** Counts calls, and lets a test wait for the next. */
export function signal(): { (): void; readonly next: () => Promise<void>; readonly count: number } {
  let waiting: (() => void)[] = [];
  let count = 0;
  const fire = (): void => {
    count++;
    const all = waiting;
    waiting = [];
    for (const wake of all) wake();
  };
  const next = (): Promise<void> => new Promise((wake) => void waiting.push(wake));
  return Object.defineProperties(fire, {
    next: { value: next },
    count: { get: () => count },
  }) as ReturnType<typeof signal>;
}
