-- worker_join: registers a worker and its lease. In: id, name, lease in microseconds.
CREATE OR REPLACE FUNCTION worker_join(p_worker uuid, p_name text, p_lease bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  v_now bigint := now_us();
BEGIN
  INSERT INTO workers (id, name, lease_us, until_us, started_us) VALUES (p_worker, p_name, p_lease, v_now + p_lease, v_now);
END $$;

-- worker_beat: renews a worker's lease, which all its runs share.
-- Out: one row with id null when the lease is renewed, none when it is gone; then its runs, and which of them are to be cancelled.
CREATE OR REPLACE FUNCTION worker_beat(p_worker uuid)
RETURNS TABLE (id text, fence double precision, lane double precision, queue integer, cancelling boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE workers w SET until_us = now_us() + w.lease_us WHERE w.id = p_worker;
  IF NOT FOUND THEN RETURN; END IF;
  RETURN NEXT;
  RETURN QUERY
  SELECT r.task_id::text, r.fence::float8, r.lane_id::float8, r.queue_id, t.cancelling
  FROM runs r JOIN tasks t ON t.id = r.task_id WHERE r.worker_id = p_worker;
END $$;

-- worker_leave: ends a worker's lease at once; what it still ran becomes claimable again (see recover_runs).
CREATE OR REPLACE FUNCTION worker_leave(p_worker uuid) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
  DELETE FROM workers w WHERE w.id = p_worker;
  RETURN recover_runs();
END $$;

-- worker_rescue: ends the leases that ran out (all of them when p_all: an embedded database has just one process, and this is
-- its start). Out: how many attempts were recovered.
CREATE OR REPLACE FUNCTION worker_rescue(p_all boolean) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
  DELETE FROM workers w WHERE w.id IN (
    SELECT v.id FROM workers v WHERE p_all OR v.until_us < now_us() ORDER BY v.id FOR UPDATE SKIP LOCKED
  );
  RETURN recover_runs();
END $$;

-- recover_runs: takes back the runs of workers that are no more: each task goes to its old place at the head of its lane, or ends
-- (cancelled if that was asked, dead after max_losses lost attempts). Tokens are not given back. A start that lay in the future
-- was not made and does not count as an attempt. A task lost twice is a suspect from then on (see suspects.sql). Out: how many.
CREATE OR REPLACE FUNCTION recover_runs() RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  v_queue queues;
  v_lanes bigint[];
  v_back uuid[];
  v_told uuid[];
  v_now bigint;
  v_count integer := 0;
  v_ended integer;
BEGIN
  FOR v_queue IN
    SELECT q.* FROM queues q WHERE q.id IN (
      SELECT r.queue_id FROM runs r WHERE NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.worker_id)
    ) ORDER BY q.id
  LOOP
    -- Exchanges look for suspects when they begin: none is under way while there come to be some.
    IF EXISTS (
      SELECT 1 FROM runs r JOIN tasks t ON t.id = r.task_id
      WHERE r.queue_id = v_queue.id AND t.losses > 0 AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.worker_id)
    ) THEN
      PERFORM pg_advisory_xact_lock(hashtext(current_schema()), v_queue.id);
    ELSE
      PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema()), v_queue.id);
    END IF;
    SELECT * INTO v_queue FROM queues q WHERE q.id = v_queue.id;
    v_lanes := ARRAY(
      SELECT DISTINCT r.lane_id FROM runs r
      WHERE r.queue_id = v_queue.id AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.worker_id)
    );
    PERFORM 1 FROM lanes l WHERE l.id = ANY (v_lanes) ORDER BY l.id FOR UPDATE;
    v_now := now_us();
    WITH lost AS (
      DELETE FROM runs r WHERE r.lane_id = ANY (v_lanes) AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.worker_id)
      RETURNING r.*
    ), judged AS (
      SELECT l.*, l.start_us <= v_now AS started FROM lost l
    ), written AS (
      UPDATE tasks t SET
        attempt = CASE WHEN j.started THEN j.attempt ELSE t.attempt END,
        losses = CASE WHEN j.started THEN t.losses + 1 ELSE t.losses END,
        started_us = CASE WHEN j.started THEN j.start_us ELSE t.started_us END,
        state = CASE WHEN t.cancelling THEN 'c' WHEN j.started AND t.losses + 1 >= v_queue.max_losses THEN 'x' ELSE 'w' END::"char",
        finished_us = CASE WHEN t.cancelling OR (j.started AND t.losses + 1 >= v_queue.max_losses) THEN GREATEST(v_now, j.start_us) END,
        error = CASE WHEN j.started AND NOT t.cancelling THEN '{"code":"lease_lost","message":"the worker was lost while it ran this task"}' ELSE t.error END
      FROM judged j WHERE t.id = j.task_id
      RETURNING t.id, t.state, t.watched, t.losses
    ), marked AS (
      INSERT INTO suspects (task_id, queue_id) SELECT w.id, v_queue.id FROM written w WHERE w.state = 'w' AND w.losses >= 2
      ON CONFLICT (task_id) DO NOTHING
    )
    SELECT array_agg(w.id) FILTER (WHERE w.state = 'w'), array_agg(w.id) FILTER (WHERE w.state <> 'w' AND w.watched), count(*)
    INTO v_back, v_told, v_ended FROM written w;
    PERFORM give_back(v_queue, v_back, v_now);
    PERFORM claim(v_queue, NULL, NULL, v_lanes, 0, 0, 1, v_now, 0, NULL);
    PERFORM pg_notify('sluice.' || current_schema(), 'done:' || w) FROM unnest(v_told) AS w;
    PERFORM wake(v_queue.id);
    v_count := v_count + v_ended;
  END LOOP;
  RETURN v_count;
END $$;
