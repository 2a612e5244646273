-- task_read: one task. Out: its row, `running` derived from its live lease; no row when there is none.
CREATE OR REPLACE FUNCTION task_read(p_task uuid) RETURNS TABLE (
  id text, queue text, partition text, name text, state text, attempt integer, failures integer, losses integer, max_attempts integer,
  fence double precision, input text, result text, error text, progress text, cancelling boolean,
  enqueued_us double precision, started_us double precision, finished_us double precision, due_us double precision
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
  RETURN QUERY
  SELECT t.id::text, q.name, l.partition, t.name,
    CASE t.state WHEN 'w' THEN CASE WHEN r.fence IS NULL THEN 'waiting' ELSE 'running' END WHEN 't' THEN 'scheduled'
      WHEN 'd' THEN 'succeeded' WHEN 'x' THEN 'dead' ELSE 'cancelled' END,
    COALESCE(r.attempt, t.attempt), t.failures, t.losses, t.max_attempts, r.fence::float8, t.input, t.result, t.error, t.progress, t.cancelling,
    t.enqueued_us::float8, COALESCE(r.start_us, t.started_us)::float8, t.finished_us::float8, m.due_us::float8
  FROM tasks t JOIN queues q ON q.id = t.queue_id LEFT JOIN lanes l ON l.id = t.lane_id
  LEFT JOIN runs r ON r.task_id = t.id LEFT JOIN timers m ON m.task_id = t.id
  WHERE t.id = p_task;
END $$;

-- task_watch: asks for a notification `done:<id>` when the task ends. Out: whether it has ended already; null when there is no such task.
CREATE OR REPLACE FUNCTION task_watch(p_task uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  v_state "char";
BEGIN
  UPDATE tasks t SET watched = true WHERE t.id = p_task AND t.state IN ('w', 't') AND NOT t.watched;
  SELECT t.state INTO v_state FROM tasks t WHERE t.id = p_task;
  RETURN v_state IN ('d', 'x', 'c');
END $$;

-- task_cancel: ends a task that is not running; asks the worker of a running one to abort it. Out: the state then, null when unknown.
CREATE OR REPLACE FUNCTION task_cancel(p_task uuid) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_task tasks;
BEGIN
  PERFORM 1 FROM lanes l WHERE l.id = (SELECT t.lane_id FROM tasks t WHERE t.id = p_task) FOR UPDATE;
  SELECT * INTO v_task FROM tasks t WHERE t.id = p_task FOR UPDATE;
  IF v_task.id IS NULL OR v_task.state IN ('d', 'x', 'c') THEN
    RETURN CASE v_task.state WHEN 'd' THEN 'succeeded' WHEN 'x' THEN 'dead' WHEN 'c' THEN 'cancelled' END;
  END IF;
  IF EXISTS (SELECT 1 FROM runs r WHERE r.task_id = p_task) THEN
    UPDATE tasks t SET cancelling = true WHERE t.id = p_task;
    PERFORM pg_notify('sluice.' || current_schema(), 'cancel:' || p_task);
    RETURN 'running';
  END IF;
  DELETE FROM timers m WHERE m.task_id = p_task;
  UPDATE tasks t SET state = 'c', finished_us = now_us() WHERE t.id = p_task;
  IF v_task.state = 'w' THEN
    UPDATE lanes l SET waiting = l.waiting - 1, open = l.open AND l.waiting > 1 WHERE l.id = v_task.lane_id;
  END IF;
  IF v_task.watched THEN PERFORM pg_notify('sluice.' || current_schema(), 'done:' || p_task); END IF;
  RETURN 'cancelled';
END $$;

-- task_retry: makes a dead or cancelled task run again, at its lane's tail and with a fresh error budget. Out: the state then.
CREATE OR REPLACE FUNCTION task_retry(p_task uuid) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_task tasks;
  v_queue queues;
BEGIN
  SELECT * INTO v_task FROM tasks t WHERE t.id = p_task;
  IF v_task.id IS NULL THEN RETURN NULL; END IF;
  SELECT * INTO v_queue FROM queues q WHERE q.id = v_task.queue_id;
  PERFORM lock_partitions(v_queue.id, ARRAY(SELECT l.partition FROM lanes l WHERE l.id = v_task.lane_id));
  UPDATE tasks t SET state = 't', seq = NULL, failures = 0, losses = 0, cancelling = false, finished_us = NULL, error = NULL
  WHERE t.id = p_task AND t.state IN ('x', 'c');
  IF FOUND THEN
    DELETE FROM suspects s WHERE s.task_id = p_task;
    INSERT INTO timers (task_id, queue_id, lane_id, due_us) VALUES (p_task, v_queue.id, v_task.lane_id, now_us());
    PERFORM promote(v_queue, ARRAY[v_task.lane_id], now_us());
    PERFORM wake(v_queue.id);
    RETURN 'waiting';
  END IF;
  RETURN (SELECT r.state FROM task_read(p_task) r);
END $$;

-- task_progress: stores what a running attempt says of itself. Out: whether the lease still held.
CREATE OR REPLACE FUNCTION task_progress(p_task uuid, p_fence bigint, p_progress text) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM 1 FROM runs r WHERE r.task_id = p_task AND r.fence = p_fence FOR KEY SHARE;
  IF NOT FOUND THEN RETURN false; END IF;
  UPDATE tasks t SET progress = p_progress WHERE t.id = p_task;
  RETURN true;
END $$;

-- step_record: keeps a step's result once. Out: null when the lease is gone, else the result that stands (as text; '' for none).
CREATE OR REPLACE FUNCTION step_record(p_task uuid, p_fence bigint, p_name text, p_result text)
RETURNS TABLE (held boolean, result text)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM 1 FROM runs r WHERE r.task_id = p_task AND r.fence = p_fence FOR KEY SHARE;
  IF NOT FOUND THEN RETURN QUERY SELECT false, NULL::text; RETURN; END IF;
  INSERT INTO steps (task_id, name, result, fence, recorded_us) VALUES (p_task, p_name, p_result, p_fence, now_us()) ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT true, s.result FROM steps s WHERE s.task_id = p_task AND s.name = p_name;
END $$;

-- step_list: the recorded steps of a task.
CREATE OR REPLACE FUNCTION step_list(p_task uuid) RETURNS TABLE (name text, result text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
  RETURN QUERY SELECT s.name, s.result FROM steps s WHERE s.task_id = p_task;
END $$;
