import type { Context, MiddlewareHandler } from "hono";
import { mergedHeader } from "../codec/merge-headers.ts";
import type { Header } from "../codec/rate-limit-fields.ts";
import { Door } from "../door/door.ts";
import type { DoorLimits, DoorOptions } from "../door/door-options.ts";
import type { DoorRequest } from "../keys/door-request.ts";

/** The options for Hono: those of a door, and how its runtime tells addresses. */
export interface HonoDoorOptions extends DoorOptions {
  /**
   * The address of the socket. By default that which `@hono/node-server` knows; on other runtimes say where it is: Bun's
   * `getConnInfo(c).remote.address`, or on Workers the header of the platform,
   * `(c) => c.req.header("cf-connecting-ip")`. Requests without an address share one budget.
   */
  readonly remoteAddress?: (context: Context) => string | undefined;
}

/**
 * A door for Hono. `settle` is told of an answer when the handler has returned it, which for a stream is before its end.
 * @throws `invalid_option`.
 *
 * @example
 *     app.use(rateLimit(limit("per-address", "100/60s")));
 *     app.post("/login", rateLimit(limit("login", "5/60s")), login);
 */
export function rateLimit(limits: DoorLimits, options: HonoDoorOptions = {}): MiddlewareHandler {
  const { remoteAddress = nodeAddress, ...rest } = options;
  const door = new Door(limits, rest);
  return async (context, next) => {
    const { headers, refusal, settle } = await door.check(doorRequestOf(context, remoteAddress(context)));
    if (refusal !== undefined) {
      await settle?.({ status: refusal.status, aborted: false });
      const all = Object.fromEntries([...headers, ...refusal.headers]);
      return context.body(refusal.body, refusal.status as 429, all);
    }
    await next();
    setHeaders(context, headers);
    await settle?.({ status: context.res.status, aborted: context.req.raw.signal.aborted });
  };
}

/** Behind the handler: headers set before it would be lost with the first handler that makes its own `Response`. */
function setHeaders(context: Context, headers: readonly Header[]): void {
  for (const [name, value] of headers)
    context.header(name, mergedHeader(name, context.res.headers.get(name) ?? undefined, value));
}

function doorRequestOf(context: Context, remoteAddress: string | undefined): DoorRequest {
  const { pathname, search } = new URL(context.req.url);
  return {
    method: context.req.method,
    url: pathname + search,
    remoteAddress,
    native: context.req.raw,
    header: (name) => context.req.header(name),
  };
}

function nodeAddress(context: Context): string | undefined {
  const { incoming } = (context.env ?? {}) as {
    readonly incoming?: { readonly socket?: { readonly remoteAddress?: string } };
  };
  return incoming?.socket?.remoteAddress;
}
