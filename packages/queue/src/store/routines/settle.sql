-- settle: ends attempts. Called by exchange with the lanes locked.
-- In: queue id; task ids and fences in step; kinds in step or null when all succeeded: 0 succeeded, 1 retry (after delay, the
--   attempt counts), 2 dead, 3 given back unstarted (at once, in its old place), 4 deferred (after delay, not counted), 5 cancelled;
--   bodies: result or error text; delays in microseconds. Out: the ids that were still this worker's to end.
-- Every write is conditional on (task, fence): a lease that was taken away changes nothing.
CREATE OR REPLACE FUNCTION settle(
  p_queue queues, p_ids uuid[], p_fences bigint[], p_kinds integer[], p_bodies text[], p_delays bigint[], p_now bigint
) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
  v_ended uuid[];
  v_cancelled uuid[];
  v_watched uuid[];
BEGIN
  WITH ended AS (
    DELETE FROM runs r
    USING unnest(p_ids, p_fences, p_kinds, p_bodies) AS g (id, fence, kind, body)
    WHERE r.task_id = g.id AND r.fence = g.fence
    RETURNING r.task_id, r.attempt, r.start_us, COALESCE(g.kind, 0) AS kind, g.body
  ), written AS (
    UPDATE tasks t SET
      -- A cancelled task that failed, was deferred or never started does not run again.
      state = CASE WHEN e.kind = 0 THEN 'd' WHEN t.cancelling OR e.kind = 5 THEN 'c' WHEN e.kind = 2 THEN 'x' WHEN e.kind = 3 THEN 'w'
        ELSE 't' END::"char",
      seq = CASE WHEN e.kind IN (1, 4) AND NOT t.cancelling THEN NULL ELSE t.seq END,
      attempt = CASE WHEN e.kind IN (3, 4) THEN t.attempt ELSE e.attempt END,
      failures = CASE WHEN e.kind IN (1, 2) THEN t.failures + 1 ELSE t.failures END,
      started_us = CASE WHEN e.kind IN (3, 4) THEN t.started_us ELSE e.start_us END,
      finished_us = CASE WHEN e.kind IN (0, 2, 5) OR t.cancelling THEN GREATEST(p_now, e.start_us) END,
      result = CASE WHEN e.kind = 0 THEN e.body END,
      error = CASE WHEN e.kind = 0 THEN t.error WHEN e.kind = 3 THEN t.error ELSE COALESCE(e.body, t.error) END
    FROM ended e WHERE t.id = e.task_id
    RETURNING t.id, t.watched AND t.state IN ('d', 'x', 'c') AS told, t.state = 'c' AS cancelled
  )
  SELECT array_agg(w.id), array_agg(w.id) FILTER (WHERE w.told), COALESCE(array_agg(w.id) FILTER (WHERE w.cancelled), '{}')
  INTO v_ended, v_watched, v_cancelled FROM written w;
  IF p_kinds IS NOT NULL THEN
    INSERT INTO timers (task_id, queue_id, lane_id, due_us)
    SELECT t.id, p_queue.id, t.lane_id, p_now + COALESCE(g.delay, 0)
    FROM unnest(p_ids, p_kinds, p_delays) AS g (id, kind, delay)
    JOIN tasks t ON t.id = g.id
    WHERE g.kind IN (1, 4) AND g.id = ANY (v_ended) AND g.id <> ALL (v_cancelled);
    PERFORM give_back(p_queue, (SELECT array_agg(g.id) FROM unnest(p_ids, p_kinds) AS g (id, kind)
      WHERE g.kind = 3 AND g.id = ANY (v_ended) AND g.id <> ALL (v_cancelled)), p_now);
  END IF;
  IF v_watched IS NOT NULL THEN
    PERFORM pg_notify('sluice.' || current_schema(), 'done:' || w) FROM unnest(v_watched) AS w;
  END IF;
  RETURN COALESCE(v_ended, '{}');
END $$;

-- give_back: makes tasks whose lease just ended claimable again in their old places; their lanes keep their old turns, so what lost
-- its start is next. Lanes are locked by the caller.
CREATE OR REPLACE FUNCTION give_back(p_queue queues, p_ids uuid[], p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE lanes l SET
    head = LEAST(l.head, b.first),
    waiting = l.waiting + b.n,
    next_us = CASE WHEN l.open OR p_queue.lane_interval_num IS NULL THEN l.next_us ELSE GREATEST(l.next_us, p_now) END,
    open = p_queue.lane_concurrency IS NULL OR COALESCE(l.running, 0) < p_queue.lane_concurrency
  FROM (SELECT t.lane_id, min(t.seq) AS first, count(*) AS n FROM tasks t WHERE t.id = ANY (p_ids) GROUP BY 1) b
  WHERE l.id = b.lane_id;
END $$;

-- promote: gives tasks whose timers are due, a thousand at most, their places at their lanes' tails. Lanes are locked by the caller.
CREATE OR REPLACE FUNCTION promote(p_queue queues, p_lanes bigint[], p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  WITH due AS (
    DELETE FROM timers m WHERE m.task_id IN (
      SELECT n.task_id FROM timers n
      WHERE n.queue_id = p_queue.id AND n.due_us <= p_now AND n.lane_id = ANY (p_lanes)
      ORDER BY n.due_us LIMIT 1000
    )
    RETURNING m.task_id, m.lane_id, m.due_us
  ), lane AS (
    UPDATE lanes l SET
      tail = l.tail + d.n,
      waiting = l.waiting + d.n,
      turn = CASE WHEN l.open THEN l.turn ELSE nextval('turns') END,
      next_us = CASE WHEN l.open OR p_queue.lane_interval_num IS NULL THEN l.next_us ELSE GREATEST(l.next_us, p_now) END,
      open = p_queue.lane_concurrency IS NULL OR COALESCE(l.running, 0) < p_queue.lane_concurrency
    FROM (SELECT due.lane_id, count(*) AS n FROM due GROUP BY 1) d
    WHERE l.id = d.lane_id
    RETURNING l.id, l.tail - d.n AS base
  )
  UPDATE tasks t SET state = 'w', seq = lane.base + d.place
  FROM (SELECT due.task_id, due.lane_id, row_number() OVER (PARTITION BY due.lane_id ORDER BY due.due_us, due.task_id) AS place FROM due) d
  JOIN lane ON lane.id = d.lane_id
  WHERE t.id = d.task_id;
END $$;
