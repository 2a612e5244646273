export {
  type ExpressRateLimitStore,
  type ExpressRateLimitStoreOptions,
  expressRateLimitStore,
} from "./adapters/express-rate-limit.ts";
export {
  type FastifyRateLimitCallback,
  type FastifyRateLimitParameters,
  type FastifyRateLimitStore,
  type FastifyRateLimitStoreOptions,
  fastifyRateLimitStore,
} from "./adapters/fastify-rate-limit.ts";
export {
  type NestThrottlerArguments,
  type NestThrottlerStorage,
  type NestThrottlerStorageOptions,
  nestThrottlerStorage,
} from "./adapters/nestjs-throttler.ts";
