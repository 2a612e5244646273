/**
 * A door for NestJS: a module that makes the guard, the guard, and decorators for what differs by route. They are written
 * without decorator syntax, so that they work whatever the compiler of the application makes of it.
 */
import type { ServerResponse } from "node:http";
import {
  type ArgumentsHost,
  type CanActivate,
  Catch,
  type DynamicModule,
  type ExceptionFilter,
  type ExecutionContext,
  HttpException,
  type Provider,
} from "@nestjs/common";
import { APP_FILTER, APP_GUARD } from "@nestjs/core";
import { mergedHeader } from "../codec/merge-headers.ts";
import type { Header } from "../codec/rate-limit-fields.ts";
import { Door } from "../door/door.ts";
import type { DoorLimits, DoorOptions } from "../door/door-options.ts";
import type { Refusal } from "../door/outcome.ts";
import type { DoorRequest } from "../keys/door-request.ts";
import { headerText, settleWhenOver } from "./node.ts";

/** The options of the module: those of a door, what every route has to pass, and whether the guard is for all of them. */
export interface NestDoorOptions extends DoorOptions {
  /** What every route has to pass that does not say otherwise; without it only routes with `@RateLimit()` are limited. */
  readonly limits?: DoorLimits;
  /** Whether the guard stands before every route; default true. If not, put `@UseGuards(RateLimitGuard)` where it should. */
  readonly global?: boolean;
}

/** The exception of a refused request. Its response is the problem; `RateLimitModule` answers with it and its headers. */
export class RateLimitException extends HttpException {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.problem, refusal.status);
    this.refusal = refusal;
  }
}

const routeLimits: unique symbol = Symbol.for("sluice.http.limits");

/** What a handler or controller says about its limits; false for none. */
interface RouteLimits {
  readonly limits: DoorLimits;
  readonly options: DoorOptions | undefined;
}

/** Marks a class or a method. */
export type RouteDecorator = (target: object, name?: string | symbol, method?: PropertyDescriptor) => void;

/**
 * Limits of its own for a controller or a handler, in place of the module's; what the handler says wins.
 * @param options On top of those of the module.
 */
export function RateLimit(limits: DoorLimits, options?: DoorOptions): RouteDecorator {
  return mark({ limits, options });
}

/** No limits for a controller or a handler. */
export function SkipRateLimit(): RouteDecorator {
  return mark(false);
}

function mark(value: RouteLimits | false): RouteDecorator {
  return (target, _name, method) => {
    const marked: object = method?.value ?? target;
    Object.defineProperty(marked, routeLimits, { value, configurable: true });
  };
}

function markOf(target: object): RouteLimits | false | undefined {
  return (target as { readonly [routeLimits]?: RouteLimits | false })[routeLimits];
}

/** Asks the door for each HTTP request. Contexts that are not HTTP (microservices, WebSockets, GraphQL) pass. */
export class RateLimitGuard implements CanActivate {
  readonly #own: Door | undefined;
  readonly #options: DoorOptions;
  readonly #doors = new WeakMap<RouteLimits, Door>();

  /** @throws `invalid_option`. */
  constructor({ limits, global: _, ...options }: NestDoorOptions) {
    this.#options = options;
    this.#own = limits === undefined ? undefined : new Door(limits, options);
  }

  /** @throws RateLimitException when the request is refused. */
  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (context.getType() !== "http") return true;
    const door = this.#doorOf(markOf(context.getHandler()) ?? markOf(context.getClass()));
    if (door === undefined) return true;
    const http = context.switchToHttp();
    const outcome = await door.check(doorRequestOf(http.getRequest<NestRequest>()));
    const response = http.getResponse<NestResponse>();
    if (outcome.settle !== undefined) settleWhenOver(outcome.settle, response.raw ?? (response as never));
    setHeaders(response, outcome.headers);
    if (outcome.refusal !== undefined) throw new RateLimitException(outcome.refusal);
    return true;
  }

  #doorOf(marked: RouteLimits | false | undefined): Door | undefined {
    if (marked === undefined) return this.#own;
    if (marked === false) return undefined;
    const known = this.#doors.get(marked);
    if (known !== undefined) return known;
    const made = new Door(marked.limits, { ...this.#options, ...marked.options });
    this.#doors.set(marked, made);
    return made;
  }
}

/** Answers a refused request with its problem and headers. */
export class RateLimitFilter implements ExceptionFilter<RateLimitException> {
  catch({ refusal }: RateLimitException, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<NestResponse>();
    if (response.headersSent === true || response.sent === true) return;
    setHeaders(response, refusal.headers);
    response.status(refusal.status);
    response.send(refusal.body);
  }
}
Catch(RateLimitException)(RateLimitFilter);

/**
 * The module.
 *
 * @example
 *     Module({ imports: [RateLimitModule.forRoot({ limits: limit("per-address", "100/60s") })] })
 */
// biome-ignore lint/complexity/noStaticOnlyClass: Nest knows a module by its class.
export class RateLimitModule {
  /** @throws `invalid_option`. */
  static forRoot(options: NestDoorOptions): DynamicModule {
    return moduleOf({ provide: RateLimitGuard, useValue: new RateLimitGuard(options) }, options.global);
  }

  /** With options that are made by other providers; `global` stands beside them. */
  static forRootAsync(options: {
    readonly useFactory: (...injected: never[]) => NestDoorOptions | Promise<NestDoorOptions>;
    readonly inject?: readonly (string | symbol | (abstract new (...given: never[]) => unknown))[];
    readonly imports?: DynamicModule["imports"];
    readonly global?: boolean;
  }): DynamicModule {
    const guard: Provider = {
      provide: RateLimitGuard,
      inject: [...(options.inject ?? [])] as never[],
      useFactory: async (...injected: never[]) => new RateLimitGuard(await options.useFactory(...injected)),
    };
    return { ...moduleOf(guard, options.global), imports: options.imports ?? [] };
  }
}

function moduleOf(guard: Provider, global = true): DynamicModule {
  const everywhere: Provider[] = global ? [{ provide: APP_GUARD, useExisting: RateLimitGuard }] : [];
  return {
    module: RateLimitModule,
    global: true,
    providers: [guard, ...everywhere, { provide: APP_FILTER, useClass: RateLimitFilter }],
    exports: [RateLimitGuard],
  };
}

/** What Express' and Fastify's requests have in common. */
interface NestRequest {
  readonly method: string;
  readonly url: string;
  readonly originalUrl?: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly socket?: { readonly remoteAddress?: string };
  readonly raw?: { readonly socket?: { readonly remoteAddress?: string } };
}

/** What Express' and Fastify's responses have in common. */
interface NestResponse {
  /** Fastify's only: the response of node, which Express' is itself. */
  readonly raw?: ServerResponse;
  readonly headersSent?: boolean;
  readonly sent?: boolean;
  getHeader(name: string): string | readonly string[] | number | undefined;
  header(name: string, value: string): unknown;
  status(code: number): unknown;
  send(body: string): unknown;
}

function doorRequestOf(request: NestRequest): DoorRequest {
  return {
    method: request.method,
    url: request.originalUrl ?? request.url,
    remoteAddress: (request.raw ?? request).socket?.remoteAddress,
    native: request,
    header: (name) => headerText(request.headers[name]),
  };
}

function setHeaders(response: NestResponse, headers: readonly Header[]): void {
  for (const [name, value] of headers)
    response.header(name, mergedHeader(name, headerText(response.getHeader(name)), value));
}
