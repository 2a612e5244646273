/** The PostgreSQL store: `@sluice/core/postgres`. */
export type {
  EmbeddedPostgres,
  PostgresClient,
  PostgresPool,
  PostgresQuery,
  PostgresRows,
} from "./stores/postgres/client.ts";
export { type PostgresStore, type PostgresStoreOptions, postgres } from "./stores/postgres/postgres-store.ts";
