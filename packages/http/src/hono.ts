export { type HonoDoorOptions, rateLimit } from "./middleware/hono.ts";
