import type { IncomingMessage, ServerResponse } from "node:http";
import { mergedHeader } from "../codec/merge-headers.ts";
import { Door } from "../door/door.ts";
import type { DoorLimits, DoorOptions } from "../door/door-options.ts";
import type { Outcome } from "../door/outcome.ts";
import type { DoorRequest } from "../keys/door-request.ts";

/** Whether a request may go on; if not, it has been answered. */
export type NodeDoor = (request: IncomingMessage, response: ServerResponse) => Promise<boolean>;

/**
 * A door for `node:http` (and `node:http2`'s compatible requests). It resolves to whether the request may go on.
 * @throws `invalid_option`.
 *
 * @example
 *     const admit = rateLimit(limit("per-address", "100/60s"));
 *     createServer(async (request, response) => {
 *       if (await admit(request, response)) response.end("hello");
 *     });
 */
export function rateLimit(limits: DoorLimits, options?: DoorOptions): NodeDoor {
  const door = new Door(limits, options);
  return async (request, response) => {
    const outcome = await door.check(doorRequestOf(request));
    return answer(outcome, response);
  };
}

/** The door's view of a request of node. */
export function doorRequestOf(request: IncomingMessage): DoorRequest {
  const { originalUrl } = request as { readonly originalUrl?: unknown };
  return {
    method: request.method ?? "GET",
    url: typeof originalUrl === "string" ? originalUrl : (request.url ?? "/"),
    remoteAddress: request.socket?.remoteAddress,
    native: request,
    header: (name) => headerText(request.headers[name]),
  };
}

/** The value of a header as node and Fastify hold it. */
export function headerText(value: string | readonly string[] | number | undefined): string | undefined {
  if (value === undefined || typeof value === "string") return value;
  return typeof value === "number" ? String(value) : value.join(", ");
}

/** Sets the headers, and answers if the request was refused. Returns whether somebody should go on with it. */
export function answer({ headers, refusal, settle }: Outcome, response: ServerResponse): boolean {
  if (settle !== undefined) settleWhenOver(settle, response);
  // The client may have left, or somebody else have answered, while a store was thinking.
  if (response.destroyed || response.writableEnded || response.headersSent) return false;
  for (const [name, value] of [...headers, ...(refusal?.headers ?? [])])
    response.setHeader(name, mergedHeader(name, headerText(response.getHeader(name)), value));
  if (refusal === undefined) return true;
  response.statusCode = refusal.status;
  response.end(refusal.body);
  return false;
}

/** Tells the door how a request was answered, when it was: also when the client has left. */
export function settleWhenOver(settle: NonNullable<Outcome["settle"]>, response: ServerResponse): void {
  const isOver = response.destroyed || response.closed;
  const over = (): void => void settle({ status: response.statusCode, aborted: !response.writableFinished });
  if (isOver) over();
  else response.once("close", over);
}
