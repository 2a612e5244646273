export { type NodeDoor, rateLimit } from "./middleware/node.ts";
