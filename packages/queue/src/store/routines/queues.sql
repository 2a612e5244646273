-- queue_declare: creates or changes a queue. What its limit has consumed stays consumed, whatever its new rate.
-- In: name; definition (JSON text, kept as given); limit (amount null: none): amount, period, guard (microseconds), burst, emission
--   interval as a reduced fraction; slots of queue and lane (null: unlimited); lane rate (null: none): period, emission interval, burst; losses allowed; retention.
-- Out: the queue's id.
CREATE OR REPLACE FUNCTION queue_declare(
  p_name text, p_definition text, p_amount bigint, p_period bigint, p_guard bigint, p_burst bigint, p_num bigint, p_den bigint,
  p_concurrency integer, p_lane_concurrency integer, p_lane_period bigint, p_lane_num bigint, p_lane_den bigint, p_lane_burst bigint, p_losses integer, p_retention bigint
) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_limit integer;
  v_before queues;
  v_queue queues;
  v_lanes bigint[];
BEGIN
  SELECT * INTO v_before FROM queues q WHERE q.name = p_name;
  IF v_before.id IS NOT NULL THEN
    IF v_before.definition = p_definition THEN RETURN v_before.id; END IF;
    -- Waits for exchanges under way, and holds off new ones until the lanes fit the new definition.
    PERFORM pg_advisory_xact_lock(hashtext(current_schema()), v_before.id);
    SELECT * INTO v_before FROM queues q WHERE q.id = v_before.id;
  END IF;
  v_limit := limit_declare('queue:' || p_name, p_amount, p_period, p_guard, p_burst, p_num, p_den);
  INSERT INTO queues AS q (name, definition, limit_id, concurrency, lane_concurrency, lane_period_us, lane_interval_num, lane_interval_den, lane_burst, max_losses, retention_us, created_us)
  VALUES (p_name, p_definition, v_limit, p_concurrency, p_lane_concurrency, p_lane_period, p_lane_num, p_lane_den, p_lane_burst, p_losses, p_retention, now_us())
  ON CONFLICT (name) DO UPDATE SET definition = EXCLUDED.definition, limit_id = EXCLUDED.limit_id, concurrency = EXCLUDED.concurrency,
    lane_concurrency = EXCLUDED.lane_concurrency, lane_period_us = EXCLUDED.lane_period_us, lane_interval_num = EXCLUDED.lane_interval_num, lane_interval_den = EXCLUDED.lane_interval_den,
    lane_burst = EXCLUDED.lane_burst, max_losses = EXCLUDED.max_losses, retention_us = EXCLUDED.retention_us
    WHERE q.definition <> EXCLUDED.definition;
  SELECT * INTO v_queue FROM queues q WHERE q.name = p_name;
  IF v_before.id IS NOT NULL AND v_before.definition <> v_queue.definition THEN
    IF v_before.lane_concurrency IS DISTINCT FROM v_queue.lane_concurrency THEN
      v_lanes := ARRAY(SELECT l.id FROM lanes l WHERE l.queue_id = v_queue.id);
      PERFORM 1 FROM lanes l WHERE l.id = ANY (v_lanes) ORDER BY l.id FOR UPDATE;
      UPDATE runs r SET lane_slot = CASE WHEN v_queue.lane_concurrency IS NOT NULL THEN r.lane_id END WHERE r.queue_id = v_queue.id;
      UPDATE lanes l SET
        running = CASE WHEN v_queue.lane_concurrency IS NOT NULL THEN (SELECT count(*) FROM runs r WHERE r.lane_slot = l.id) END,
        -- Suspects that claims have passed over may have to start in order from now on.
        head = LEAST(l.head, (
          SELECT min(t.seq) FROM suspects s JOIN tasks t ON t.id = s.task_id WHERE s.queue_id = v_queue.id AND t.lane_id = l.id AND t.state = 'w'
        )),
        open = l.waiting > 0 AND (v_queue.lane_concurrency IS NULL
          OR (SELECT count(*) FROM runs r WHERE r.lane_slot = l.id) < v_queue.lane_concurrency)
      WHERE l.id = ANY (v_lanes);
    END IF;
    IF v_before.concurrency IS DISTINCT FROM v_queue.concurrency THEN
      UPDATE runs r SET queue_slot = CASE WHEN v_queue.concurrency IS NOT NULL THEN r.queue_id END WHERE r.queue_id = v_queue.id;
    END IF;
    IF (v_queue.lane_interval_num, v_queue.lane_interval_den, v_queue.lane_burst)
      IS DISTINCT FROM (v_before.lane_interval_num, v_before.lane_interval_den, v_before.lane_burst) THEN
      UPDATE lanes l SET
        tat_us = LEAST(l.tat_us, d.full_us),
        tat_rem = 0,
        next_us = CASE WHEN v_queue.lane_interval_num IS NULL THEN 0 ELSE LEAST(GREATEST(l.next_us, now_us()), d.full_us) END
      FROM (SELECT now_us() + COALESCE(v_queue.lane_burst * v_queue.lane_interval_num / v_queue.lane_interval_den + 1, 0) AS full_us) d
      WHERE l.queue_id = v_queue.id;
    END IF;
    PERFORM wake(v_queue.id);
  END IF;
  RETURN v_queue.id;
END $$;

-- limit_declare: creates or changes a limit. What it has consumed stays consumed, as far as the new schedule can owe it: at most an
-- empty bucket, or a change from one an hour to ten a second would still wait out the hour. Out: its id; null without an amount.
CREATE OR REPLACE FUNCTION limit_declare(
  p_name text, p_amount bigint, p_period bigint, p_guard bigint, p_burst bigint, p_num bigint, p_den bigint
) RETURNS integer
LANGUAGE plpgsql AS $$
BEGIN
  IF p_amount IS NULL THEN RETURN NULL; END IF;
  INSERT INTO limits AS l (name, amount, period_us, guard_us, burst, interval_num, interval_den)
  VALUES (p_name, p_amount, p_period, p_guard, p_burst, p_num, p_den)
  ON CONFLICT (name) DO UPDATE SET amount = EXCLUDED.amount, period_us = EXCLUDED.period_us, guard_us = EXCLUDED.guard_us,
    burst = EXCLUDED.burst, interval_num = EXCLUDED.interval_num, interval_den = EXCLUDED.interval_den,
    tat_us = LEAST(l.tat_us + CASE WHEN l.tat_rem > 0 THEN 1 ELSE 0 END, now_us() + p_burst * p_num / p_den + 1), tat_rem = 0
    WHERE (l.amount, l.period_us, l.guard_us, l.burst) IS DISTINCT FROM (EXCLUDED.amount, EXCLUDED.period_us, EXCLUDED.guard_us, EXCLUDED.burst);
  RETURN (SELECT l.id FROM limits l WHERE l.name = p_name);
END $$;

-- queue_stats: how many tasks of a queue are in each state. Out: state, count.
CREATE OR REPLACE FUNCTION queue_stats(p_queue integer) RETURNS TABLE (state text, n double precision)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
  RETURN QUERY
  SELECT CASE c.state WHEN 'w' THEN 'waiting' WHEN 't' THEN 'scheduled' WHEN 'd' THEN 'succeeded' WHEN 'x' THEN 'dead'
      WHEN 'c' THEN 'cancelled' ELSE 'running' END, c.n::float8
  FROM (
    SELECT CASE WHEN t.state = 'w' AND r.task_id IS NOT NULL THEN 'r' ELSE t.state END AS state, count(*) AS n
    FROM tasks t LEFT JOIN runs r ON r.task_id = t.id WHERE t.queue_id = p_queue GROUP BY 1
  ) c;
END $$;

-- queue_pause: stops or resumes claims on a queue.
CREATE OR REPLACE FUNCTION queue_pause(p_queue integer, p_paused boolean) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE queues q SET paused = p_paused WHERE q.id = p_queue;
  PERFORM wake(p_queue);
END $$;
