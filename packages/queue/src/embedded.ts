/** The embedded database. An entry of its own, so that who uses PostgreSQL loads nothing of it. */
export { type EmbeddedOptions, embedded } from "./store/embedded/source.ts";
