-- The state of limits: one row per limit and key, and the rules it was made under.
--
-- A key that is as if it had never been used needs no row. Rows are changed in place (HOT: no column but the primary key is
-- indexed, and half of each page is left free), and locked in ascending order of the callers' lists. Instants are whole
-- microseconds since 1970 on this server's clock.

CREATE TABLE limit_rules (
  -- A digest of the constants.
  id bigint PRIMARY KEY,
  constants bigint[] NOT NULL
);

CREATE TABLE limit_keys (
  -- Limit and key in one; see row-key.ts.
  row_key text COLLATE "C" PRIMARY KEY,
  -- The rule the budget was last changed under; null without one.
  rule bigint,
  -- Token bucket: the theoretical arrival time, and its fraction in parts of the rule. Fixed window: its start, and what was used
  -- of it. Sliding window: nothing, and the sum of the entries that have left the log. Concurrency: the last fence, and nothing.
  at_us bigint,
  part bigint,
  -- Sliding window: the instants of the log, ascending, and the sum up to and with each. Concurrency: fences, slots, ends.
  ats bigint[],
  sums bigint[],
  ends bigint[],
  block_until_us bigint,
  block_for_us bigint,
  -- From then on the row says nothing, and may go.
  expires_us bigint NOT NULL
) WITH (fillfactor = 50);

-- A long log is kept outside its row, but never compressed: every decision would have to undo it several times over.
ALTER TABLE limit_keys ALTER COLUMN ats SET STORAGE EXTERNAL, ALTER COLUMN sums SET STORAGE EXTERNAL, ALTER COLUMN ends SET STORAGE EXTERNAL;
