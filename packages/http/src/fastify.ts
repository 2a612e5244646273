export {
  type FastifyDoorOptions,
  type FastifyDoorPlugin,
  type FastifyRouteLimits,
  rateLimit,
} from "./middleware/fastify.ts";
