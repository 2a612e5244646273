import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from "fastify";
import { mergedHeader } from "../codec/merge-headers.ts";
import { Door } from "../door/door.ts";
import type { DoorLimits, DoorOptions } from "../door/door-options.ts";
import type { DoorRequest } from "../keys/door-request.ts";
import { headerText, settleWhenOver } from "./node.ts";

/** The options of the plugin: those of a door, and where it stands. */
export interface FastifyDoorOptions extends DoorOptions {
  /** What every route has to pass that does not say otherwise; without it only routes that say so are limited. */
  readonly limits?: DoorLimits;
  /** `onRequest` (the default) decides before the body is read, `preHandler` after it and after authentication. */
  readonly hook?: "onRequest" | "preHandler";
}

/**
 * What a route says in its `config.limits`: false for no limits, or limits of its own in place of the plugin's, as they are
 * or with options of their own.
 */
export type FastifyRouteLimits = false | DoorLimits | ({ readonly limits: DoorLimits } & DoorOptions);

declare module "fastify" {
  interface FastifyContextConfig {
    /** The limits of this route: see `@sluice/http/fastify`. */
    limits?: FastifyRouteLimits;
  }
}

/** The plugin, as Fastify knows it. */
export type FastifyDoorPlugin = (fastify: FastifyInstance, options: FastifyDoorOptions) => Promise<void>;

/**
 * A door for Fastify. It holds for all routes of the instance it is registered with and those below, 404s included.
 *
 * Fastify's own `trustProxy` is not consulted: say in `trust` which proxies are believed.
 * @throws `invalid_option`, on registration of the plugin or of the route.
 *
 * @example
 *     await app.register(rateLimit, { limits: limit("per-address", "100/60s") });
 *     app.post("/login", { config: { limits: limit("login", "5/60s") } }, login);
 *     app.get("/health", { config: { limits: false } }, health);
 */
export const rateLimit: FastifyDoorPlugin = Object.assign(register, {
  // What fastify-plugin would set: the hooks are for the instance that registers, not for a child of it.
  [Symbol.for("skip-override")]: true,
  [Symbol.for("fastify.display-name")]: "@sluice/http",
  [Symbol.for("plugin-meta")]: { name: "@sluice/http", fastify: "5.x" },
});

async function register(fastify: FastifyInstance, options: FastifyDoorOptions): Promise<void> {
  const { limits, hook = "onRequest", ...door } = options;
  const own = limits === undefined ? undefined : new Door(limits, door);
  const doors = new WeakMap<object, Door>();

  const doorOf = (config: FastifyRouteLimits | undefined): Door | undefined => {
    if (config === undefined) return own;
    if (config === false) return undefined;
    const known = doors.get(config);
    if (known !== undefined) return known;
    const made = routeDoor(config, door);
    doors.set(config, made);
    return made;
  };

  // Made when the route is declared, so that a mistake is found then and not by the first request.
  fastify.addHook("onRoute", (route: RouteOptions) => void doorOf(route.config?.limits));
  fastify.addHook(hook, async (request: FastifyRequest, reply: FastifyReply) => {
    const outcome = await doorOf(request.routeOptions.config.limits)?.check(doorRequestOf(request));
    if (outcome?.settle !== undefined) settleWhenOver(outcome.settle, reply.raw);
    if (outcome === undefined || reply.sent) return;
    // The client has left while a store was thinking: nobody needs the handler any more.
    if (reply.raw.destroyed) return reply.hijack();
    for (const [name, value] of [...outcome.headers, ...(outcome.refusal?.headers ?? [])])
      reply.header(name, mergedHeader(name, headerText(reply.getHeader(name)), value));
    if (outcome.refusal !== undefined) return reply.code(outcome.refusal.status).send(outcome.refusal.body);
  });
}

function routeDoor(config: Exclude<FastifyRouteLimits, false>, defaults: DoorOptions): Door {
  if (!("limits" in config)) return new Door(config, defaults);
  const { limits, ...options } = config;
  return new Door(limits, { ...defaults, ...options });
}

function doorRequestOf(request: FastifyRequest): DoorRequest {
  return {
    method: request.method,
    url: request.originalUrl,
    remoteAddress: request.raw.socket?.remoteAddress,
    native: request,
    header: (name) => headerText(request.headers[name]),
  };
}
