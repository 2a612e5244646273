import type { IncomingMessage, ServerResponse } from "node:http";
import { Door } from "../door/door.ts";
import type { DoorLimits, DoorOptions } from "../door/door-options.ts";
import { answer, doorRequestOf } from "./node.ts";

/** A middleware of Express, and of everything that takes its kind: Connect, Restify, Polka. */
export type ExpressMiddleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void;

/**
 * A door for Express. As `app.use(rateLimit(...))` before the routes it also counts what no route answers; as an argument of
 * a route it counts that route. Several doors on the way of a request add their headers to each other's.
 *
 * Express' own `trust proxy` is not consulted: say in `trust` which proxies are believed.
 * @throws `invalid_option`.
 *
 * @example
 *     app.use(rateLimit(limit("per-address", "100/60s")));
 *     app.post("/login", rateLimit(limit("login", "5/60s"), { storeFailure: "closed" }), login);
 */
export function rateLimit(limits: DoorLimits, options?: DoorOptions): ExpressMiddleware {
  const door = new Door(limits, options);
  return (request, response, next) => {
    door
      .check(doorRequestOf(request))
      .then((outcome) => answer(outcome, response))
      .then((goesOn) => {
        if (goesOn) next();
      }, next);
  };
}
