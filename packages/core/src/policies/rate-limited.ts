import { SluiceError } from "../base/errors.ts";
import type { Acquirable } from "./call-policy.ts";
import { type KeyedAcquirable, type WrapOptions, wrap } from "./wrap.ts";

/** What a method must return to be put under a limit: something that can wait, or nothing. */
// biome-ignore lint/suspicious/noConfusingVoidType: it is what a method that returns nothing returns.
type Waitable = PromiseLike<unknown> | void;

/** A method decorator, for methods whose arguments begin with `Args`. */
export interface RateLimitedDecorator<Args extends readonly unknown[]> {
  /** As the ECMAScript standard has it. */
  <This, Own extends readonly [...Args, ...unknown[]], Result extends Waitable>(
    method: (this: This, ...args: Own) => Result,
    context: ClassMethodDecoratorContext<This, (this: This, ...args: Own) => Result>,
  ): (this: This, ...args: Own) => Result;
  /** As TypeScript's `experimentalDecorators` have it, which NestJS uses. */
  <Own extends readonly [...Args, ...unknown[]], Result extends Waitable>(
    target: object,
    name: string | symbol,
    descriptor: TypedPropertyDescriptor<(...args: Own) => Result>,
  ): void;
}

/**
 * A decorator that puts a method under a limit, as {@link wrap} does a function. It is for methods that return a promise, be they
 * `async` or not, and for those that return nothing, which return a promise then: a value cannot be waited for without one, and
 * the compiler refuses methods that return any.
 *
 * All instances share the limit; `key` can tell calls apart by their arguments.
 * @throws `invalid_option` for bad options, and when put on anything but a method.
 *
 * @example
 *     class GitHub {
 *       @rateLimited(github, { key: (org: string) => org })
 *       async members(org: string): Promise<Member[]> { … }
 *     }
 */
export function rateLimited<Args extends readonly unknown[] = []>(
  limit: Acquirable | KeyedAcquirable,
  options?: WrapOptions<Args>,
): RateLimitedDecorator<Args> {
  const decorate = (
    subject: unknown,
    context: { readonly kind?: unknown } | string | symbol,
    descriptor?: PropertyDescriptor,
  ): unknown => {
    if (descriptor !== undefined && typeof descriptor.value === "function") {
      descriptor.value = wrap(descriptor.value, limit, options as never);
      return undefined;
    }
    if (typeof context === "object" && context.kind === "method" && typeof subject === "function")
      return wrap(subject as (...args: never) => unknown, limit, options as never);
    throw new SluiceError("invalid_option", "rateLimited: expected a method to decorate");
  };
  return decorate as RateLimitedDecorator<Args>;
}
