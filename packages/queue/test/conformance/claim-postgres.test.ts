import { freshDatabase } from "../../../../tools/testing/database.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { claimConformance } from "./claim.ts";

const { url, schema } = freshDatabase("claim");

claimConformance("postgres", schema, () => openPostgres(url));
