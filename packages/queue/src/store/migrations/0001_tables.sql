-- The tables of the queue engine.
--
-- Who may write what, and the lock order every routine keeps (tested by lock-order.test.ts):
--   idempotency -> workers -> lanes (by queue, then id, ascending) -> timers, runs, tasks, suspects -> queues -> limits.
-- A task's place in its lane is given under the lane's row lock, which lasts to the commit: that makes FIFO the order of commits.
-- A task is running exactly while it has a row in `runs`; its own row changes only when an attempt ends. Instants are
-- microseconds since 1970 on this server's clock (`clock_timestamp()`), whoever asks.

CREATE SEQUENCE fences;
CREATE SEQUENCE turns;

-- Budgets: one row per limit, the only record of what was spent. Never derived from tasks, so nothing that happens to a task gives tokens back.
CREATE TABLE limits (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  amount bigint NOT NULL CHECK (amount > 0),
  period_us bigint NOT NULL CHECK (period_us > 0),
  guard_us bigint NOT NULL CHECK (guard_us >= 0),
  burst bigint NOT NULL CHECK (burst > 0),
  -- Emission interval (period + guard) / amount as a reduced fraction: exact at any rate.
  interval_num bigint NOT NULL CHECK (interval_num > 0),
  interval_den bigint NOT NULL CHECK (interval_den > 0),
  -- Theoretical arrival time of GCRA: whole microseconds and the remainder in 1/interval_den of one.
  tat_us bigint NOT NULL DEFAULT 0,
  tat_rem bigint NOT NULL DEFAULT 0,
  -- Lateness granted beyond what the guard covers (see limit_advance): the pause owed for it, and the starts since; what the last
  -- claim was given.
  owed_us bigint NOT NULL DEFAULT 0,
  owed_starts bigint NOT NULL DEFAULT 0,
  patience_us bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE queues (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  definition text NOT NULL,
  limit_id integer REFERENCES limits (id),
  concurrency integer CHECK (concurrency > 0),
  lane_concurrency integer CHECK (lane_concurrency > 0),
  -- Rate of each partition, as in `limits`; null when partitions have none.
  lane_period_us bigint,
  lane_interval_num bigint CHECK (lane_interval_num > 0),
  lane_interval_den bigint CHECK (lane_interval_den > 0),
  lane_burst bigint NOT NULL DEFAULT 1 CHECK (lane_burst > 0),
  max_losses integer NOT NULL CHECK (max_losses > 0),
  retention_us bigint NOT NULL,
  paused boolean NOT NULL DEFAULT false,
  created_us bigint NOT NULL
) WITH (fillfactor = 50);

-- One row per (queue, partition): the FIFO's head and tail, its share of the slots, its turn in the round.
CREATE TABLE lanes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue_id integer NOT NULL,
  partition text NOT NULL,
  tail bigint NOT NULL DEFAULT 0,
  -- No waiting task has a lower place: claims start reading here, past everything finished.
  head bigint NOT NULL DEFAULT 1,
  waiting bigint NOT NULL DEFAULT 0,
  -- Live leases, counted from `runs` on every change when the queue limits them; null otherwise.
  running integer,
  turn bigint NOT NULL DEFAULT 0,
  next_us bigint NOT NULL DEFAULT 0,
  tat_us bigint NOT NULL DEFAULT 0,
  tat_rem bigint NOT NULL DEFAULT 0,
  -- Has waiting tasks and a free slot: exactly the lanes a claim may look at.
  open boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX lanes_partition ON lanes (queue_id, partition);
CREATE INDEX lanes_open ON lanes (queue_id, next_us, turn) WHERE open;

CREATE TABLE tasks (
  id uuid PRIMARY KEY,
  lane_id bigint NOT NULL,
  -- Place in the lane; null while on a timer.
  seq bigint,
  queue_id integer NOT NULL,
  -- w waiting (running when `runs` has it), t on a timer, d done, x dead, c cancelled
  state "char" NOT NULL,
  cancelling boolean NOT NULL DEFAULT false,
  watched boolean NOT NULL DEFAULT false,
  attempt integer NOT NULL DEFAULT 0,
  max_attempts integer NOT NULL,
  failures integer NOT NULL DEFAULT 0,
  -- Attempts that ended because their worker was lost: counted apart, so that a crash never spends the error budget.
  losses integer NOT NULL DEFAULT 0,
  enqueued_us bigint NOT NULL,
  started_us bigint,
  finished_us bigint,
  name text NOT NULL,
  input text,
  result text,
  error text,
  progress text
  -- Half of each page stays free, so that the end of a task is written beside it and touches no index (12 % more tasks a second).
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX tasks_lane ON tasks (lane_id, seq);

CREATE TABLE timers (
  task_id uuid PRIMARY KEY,
  queue_id integer NOT NULL,
  lane_id bigint NOT NULL,
  due_us bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX timers_due ON timers (queue_id, due_us);

CREATE TABLE workers (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  lease_us bigint NOT NULL,
  until_us bigint NOT NULL,
  started_us bigint NOT NULL
) WITH (fillfactor = 50);

-- A live lease: the right of one worker to run one attempt of one task and to write its outcome.
CREATE TABLE runs (
  task_id uuid PRIMARY KEY,
  queue_id integer NOT NULL,
  lane_id bigint NOT NULL,
  worker_id uuid NOT NULL,
  fence bigint NOT NULL,
  attempt integer NOT NULL,
  start_us bigint NOT NULL,
  -- Set only where the queue limits concurrency, so that unlimited queues pay for no index.
  lane_slot bigint,
  queue_slot integer
) WITH (fillfactor = 70);
CREATE INDEX runs_lane_slot ON runs (lane_slot) WHERE lane_slot IS NOT NULL;
CREATE INDEX runs_queue_slot ON runs (queue_slot) WHERE queue_slot IS NOT NULL;

-- Live tasks whose worker was lost twice or more while it ran them: a worker runs one of them at a time. Written with `losses`, and removed
-- some time after the task's end. Beside `tasks`, not an index on it: that would make the end of every task write an index.
CREATE TABLE suspects (
  task_id uuid PRIMARY KEY,
  queue_id integer NOT NULL
);
CREATE INDEX suspects_queue ON suspects (queue_id);
-- What a claim knows of them (see suspicion_of).
CREATE TYPE suspicion AS (task_id uuid, lane_id bigint, seq bigint, pass boolean, waiting integer, held bigint[], lanes bigint[]);

-- Append-only record of every start granted under a limit: one row per claim, its arrays in step.
CREATE TABLE ledger (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue_id integer NOT NULL,
  limit_id integer,
  worker_id uuid NOT NULL,
  claimed_us bigint NOT NULL,
  starts bigint[] NOT NULL,
  lanes bigint[] NOT NULL,
  tasks uuid[] NOT NULL,
  fences bigint[] NOT NULL
);

CREATE TABLE steps (
  task_id uuid NOT NULL,
  name text NOT NULL,
  result text,
  fence bigint NOT NULL,
  recorded_us bigint NOT NULL,
  PRIMARY KEY (task_id, name)
);

CREATE TABLE idempotency (
  queue_id integer NOT NULL,
  key text NOT NULL,
  task_id uuid NOT NULL,
  digest text NOT NULL,
  expires_us bigint NOT NULL,
  PRIMARY KEY (queue_id, key)
);
CREATE INDEX idempotency_expires ON idempotency (expires_us);

-- Tasks enqueued inside a caller's own transaction wait here for its commit, when a deferred trigger enqueues them: an
-- open transaction holds no lane. Columns are the arguments of `enqueue`.
CREATE TABLE staged (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
  queue_id integer NOT NULL,
  ids uuid[] NOT NULL,
  partitions text[] NOT NULL,
  names text[] NOT NULL,
  inputs text[] NOT NULL,
  max_attempts integer[] NOT NULL,
  delays bigint[],
  dues bigint[]
);
CREATE INDEX staged_xact ON staged (xact);
