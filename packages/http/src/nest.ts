export {
  type NestDoorOptions,
  RateLimit,
  RateLimitException,
  RateLimitFilter,
  RateLimitGuard,
  RateLimitModule,
  type RouteDecorator,
  SkipRateLimit,
} from "./middleware/nest.ts";
