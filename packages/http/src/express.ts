export { type ExpressMiddleware, rateLimit } from "./middleware/express.ts";
