/** Feedback over real sockets: a server that refuses, and limits that learn from it. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, request } from "node:http";
import type { AddressInfo } from "node:net";
import {
  adaptive,
  type Feedback,
  limit,
  limitedFetch,
  memory,
  observe,
  RateLimitExceeded,
} from "@sluice/core";
import { virtualClock } from "@sluice/core/testing";
import { describe, expect, onTestFinished, test } from "vitest";

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** A server that refuses the requests whose turn is in `refused`, counted from 0, and tells what it was sent. */
async function refusing(refused: readonly number[], retryAfter = "30") {
  const bodies: string[] = [];
  const url = await serve(async (incoming, response) => {
    const turn = bodies.length;
    bodies.push("");
    let text = "";
    for await (const chunk of incoming) text += chunk;
    bodies[turn] = text;
    if (refused.includes(turn)) response.writeHead(429, { "Retry-After": retryAfter });
    response.end(`answer ${turn}`);
  });
  return { url, bodies };
}

describe("observe", () => {
  test("blocks the key whose request was refused, and no other", async () => {
    const clock = virtualClock();
    const github = limit("github", "100/s", { clock });
    const { url } = await refusing([0]);
    const feedback = await observe(github.for("a"), await fetch(url));
    expect(feedback).toMatchObject({ refused: true, blockForMs: 30_000 });
    expect(github.for("a").tryAcquire()).toMatchObject({ allowed: false, retryAfterMs: 30_000 });
    expect(github.for("b").tryAcquire().allowed).toBe(true);
    clock.advance(29_999_999);
    expect(github.for("a").tryAcquire().allowed).toBe(false);
    clock.advance(1);
    expect(github.for("a").tryAcquire().allowed).toBe(true);
  });

  test("reads an IncomingMessage just as well, and stops everybody who shares the store", async () => {
    const store = memory();
    const here = limit("github", "100/s", { store });
    const there = limit("github", "100/s", { store });
    const { url } = await refusing([0]);
    const [incoming] = (await once(request(url).end(), "response")) as [IncomingMessage];
    incoming.resume();
    await observe(here, incoming);
    expect(there.tryAcquire().allowed).toBe(false);
  });

  test("never blocks for longer than the cap, however much is asked", async () => {
    const clock = virtualClock();
    const github = limit("github", "100/s", { clock });
    const { url } = await refusing([0], "999999999");
    expect(await observe(github, await fetch(url), { capMs: 5000 })).toMatchObject({ capped: true });
    clock.advance(5_000_000);
    expect(github.tryAcquire().allowed).toBe(true);
  });

  test("the later of two blocks holds", async () => {
    const clock = virtualClock();
    const github = limit("github", "100/s", { clock });
    await observe(github, { "retry-after": "60" });
    await observe(github, { "retry-after": "1" });
    expect(github.tryAcquire().retryAfterMs).toBe(60_000);
  });

  test("leaves the limit alone when the answer says nothing", async () => {
    const github = limit("github", "100/s");
    const { url } = await refusing([]);
    expect(await observe(github, await fetch(url))).toBeUndefined();
    expect(github.tryAcquire().allowed).toBe(true);
  });
});

describe("limitedFetch", () => {
  test("waits for its turn, and for the end of a block", async () => {
    const clock = virtualClock();
    const github = limit("github", "2/60s", { clock });
    const { url, bodies } = await refusing([0]);
    const limited = limitedFetch(github);
    expect((await limited(url)).status).toBe(429);
    const waiting = limited(url);
    await clock.advanceAsync(29_999_999);
    expect(bodies).toHaveLength(1);
    await clock.advanceAsync(1);
    expect(await (await waiting).text()).toBe("answer 1");
  });

  test("makes a refused request once more when the limit admits it again", async () => {
    const clock = virtualClock();
    const github = limit("github", "10/s", { clock });
    const { url, bodies } = await refusing([0]);
    const heard: (Feedback | undefined)[] = [];
    const limited = limitedFetch(github, {
      retry: true,
      onFeedback: (feedback) => void heard.push(feedback),
    });
    const posted = limited(url, { method: "POST", body: "hello" });
    while (github.waiters === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advanceAsync(30_000_000);
    expect(await (await posted).text()).toBe("answer 1");
    expect(bodies).toEqual(["hello", "hello"]);
    expect(heard).toEqual([expect.objectContaining({ refused: true, blockForMs: 30_000 }), undefined]);
  });

  test("sends the body of a Request again as well, and returns a second refusal", async () => {
    const { url, bodies } = await refusing([0, 1], "0");
    const limited = limitedFetch(limit("github", "10/s"), { retry: true });
    const response = await limited(new Request(url, { method: "POST", body: "hello" }));
    expect([response.status, await response.text()]).toEqual([429, "answer 1"]);
    expect(bodies).toEqual(["hello", "hello"]);
  });

  test("makes a request once when it was not refused", async () => {
    const { url, bodies } = await refusing([]);
    const limited = limitedFetch(limit("github", "10/s"), { retry: true });
    expect((await limited(url)).status).toBe(200);
    expect(bodies).toHaveLength(1);
  });

  test("does not send a stream twice", async () => {
    const { url, bodies } = await refusing([0], "0");
    const limited = limitedFetch(limit("github", "10/s"), { retry: true });
    const init = { method: "POST", body: new Blob(["hello"]).stream(), duplex: "half" } as RequestInit;
    expect((await limited(url, init)).status).toBe(429);
    expect(bodies).toEqual(["hello"]);
  });

  test("returns the refusal, whole, when the wait would be too long", async () => {
    const { url } = await refusing([0]);
    const limited = limitedFetch(limit("github", "10/s"), { retry: true, maxWaitMs: 10 });
    const response = await limited(url);
    expect([response.status, await response.text()]).toEqual([429, "answer 0"]);
    await expect(limited(url)).rejects.toBeInstanceOf(RateLimitExceeded);
  });

  test("draws from a key and at a cost that the request decides", async () => {
    const perHost = limit("per-host", "10/h");
    const { url } = await refusing([]);
    const limited = limitedFetch(perHost, {
      key: (input) => new URL(String(input)).hostname,
      cost: (_input, init) => (init?.method === "POST" ? 5 : 1),
    });
    await limited(url);
    await limited(url, { method: "POST" });
    expect(perHost.for("127.0.0.1").available()).toBe(4);
    expect(perHost.available()).toBe(10);
  });

  test("gives up its wait when the request's signal fires", async () => {
    const github = limit("github", "1/h");
    const { url, bodies } = await refusing([]);
    const limited = limitedFetch(github);
    await limited(url);
    const controller = new AbortController();
    const waiting = limited(url, { signal: controller.signal });
    const request = limited(new Request(url, { signal: controller.signal }));
    controller.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    await expect(request).rejects.toThrow("enough");
    expect([bodies.length, github.waiters]).toEqual([1, 0]);
  });

  test("hands on what fetch rejects with", async () => {
    const url = await serve((_request, response) => void response.destroy());
    await expect(limitedFetch(limit("github", "1/s"))(url)).rejects.toThrow(TypeError);
  });

  test("teaches an adaptive rate", async () => {
    const crm = limit("crm", "40/s");
    const rate = adaptive(crm, { floor: 5, ceiling: 100, increase: 30, holdMs: 0 });
    const { url } = await refusing([0], "0");
    const limited = limitedFetch(crm, { onFeedback: (_feedback, response) => rate.observe(response) });
    await limited(url);
    expect([rate.current, crm.rate.text]).toEqual([20, "20/s"]);
    await limited(url);
    expect(rate.current).toBe(21);
  });

  test("refuses options that it cannot use", () => {
    expect(() => limitedFetch(limit("l", "1/s"), { cost: 0 })).toThrow(/limitedFetch: option cost/);
    expect(() => limitedFetch(limit("l", "1/s"), { key: 5 as never })).toThrow(/option key/);
  });
});
