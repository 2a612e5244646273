import { createServer } from "node:net";

// Below the range from which the kernel takes the local ports of outgoing connections: a client that keeps dialling a
// server which is down could otherwise be given the very port it dials, connect to itself and keep the server from it.
const lowest = 15_000;
const highest = 31_999;
const attempts = 50;

/** A TCP port on 127.0.0.1 that nothing uses at this moment, and that no outgoing connection will be given. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest + 1));
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port between ${lowest} and ${highest} after ${attempts} attempts`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
