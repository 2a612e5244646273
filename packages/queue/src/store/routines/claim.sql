-- claim: grants the starts that schedule finds, and debits the limits for them, in one statement. Called by exchange.
-- In: queue; its limit as of now (limit_advance; all null when it has none), locked; worker; candidate lanes, locked; room, lanes and tasks of one
--   serial lane at most; clock; horizon (microseconds); what is known of suspects (see suspicion_of).
-- Out: one row per grant; with no room it only counts the lanes' slots anew.
CREATE OR REPLACE FUNCTION claim(
  p_queue queues, p_limit limits, p_worker uuid, p_lanes bigint[], p_room integer, p_slots integer, p_chain integer, p_now bigint,
  p_horizon bigint, p_suspicion suspicion
) RETURNS TABLE (
  id text, fence double precision, attempt integer, failures integer, max_attempts integer, start_us double precision,
  lane double precision, partition text, name text, input text
)
LANGUAGE plpgsql AS $$
DECLARE
  v_lanes bigint[] := ARRAY(SELECT DISTINCT u FROM unnest(p_lanes) AS u);
  v_live integer[];
  v_paced boolean := p_queue.lane_interval_num IS NOT NULL;
  v_lane_num bigint := COALESCE(p_queue.lane_interval_num, 0);
  v_lane_den bigint := COALESCE(p_queue.lane_interval_den, 1);
  v_lane_slack bigint := ((p_queue.lane_burst - 1) * v_lane_num) / v_lane_den;
BEGIN
  IF p_queue.lane_concurrency IS NOT NULL THEN
    v_live := ARRAY(
      SELECT COALESCE(c.n, 0) FROM unnest(v_lanes) WITH ORDINALITY AS u (id, ord)
      LEFT JOIN (SELECT r.lane_slot, count(*)::integer AS n FROM runs r WHERE r.lane_slot = ANY (v_lanes) GROUP BY 1) c ON c.lane_slot = u.id
      ORDER BY u.ord
    );
  END IF;
  RETURN QUERY
  WITH granted AS MATERIALIZED (
    SELECT s.*, nextval('fences') AS fence
    FROM schedule(p_queue, p_limit, v_lanes, v_live, p_room, p_slots, p_chain, p_now, p_horizon, p_suspicion) s
  ), leased AS (
    INSERT INTO runs (task_id, queue_id, lane_id, worker_id, fence, attempt, start_us, lane_slot, queue_slot)
    SELECT g.task_id, p_queue.id, g.lane_id, p_worker, g.fence, g.attempt + 1, g.start,
      CASE WHEN p_queue.lane_concurrency IS NOT NULL THEN g.lane_id END, CASE WHEN p_queue.concurrency IS NOT NULL THEN p_queue.id END
    FROM granted g
  ), spent AS (
    SELECT u.id, u.live + COALESCE(m.n, 0) AS live, COALESCE(m.n, 0) AS n, m.last, m.rem,
      -- Under two rates the start may lie later than the lane's own schedule had it.
      GREATEST(m.tat, CASE WHEN p_limit.id IS NOT NULL THEN m.start + (v_lane_num + v_lane_den - 1) / v_lane_den END) AS tat
    FROM unnest(v_lanes, v_live) AS u (id, live) LEFT JOIN (
      SELECT g.lane_id, count(*)::integer AS n, max(g.seq) AS last, max(g.start) AS start,
        min(g.tat) + (min(g.rem) + count(*) * v_lane_num) / v_lane_den AS tat, (min(g.rem) + count(*) * v_lane_num) % v_lane_den AS rem
      FROM granted g GROUP BY g.lane_id
    ) m ON m.lane_id = u.id
  ), moved AS (
    UPDATE lanes l SET
      head = GREATEST(s.last + 1, l.head),
      waiting = l.waiting - s.n,
      running = s.live,
      -- A lane that stays closed changes no indexed column, so its row is updated in place.
      turn = CASE WHEN l.waiting <= s.n OR s.live >= p_queue.lane_concurrency OR (l.open AND s.n = 0) THEN l.turn ELSE nextval('turns') END,
      open = l.waiting > s.n AND (s.live IS NULL OR s.live < p_queue.lane_concurrency),
      tat_us = CASE WHEN v_paced AND s.n > 0 THEN s.tat ELSE l.tat_us END,
      tat_rem = CASE WHEN v_paced AND s.n > 0 THEN s.rem ELSE l.tat_rem END,
      next_us = CASE WHEN NOT v_paced THEN l.next_us WHEN s.n > 0 THEN s.tat - v_lane_slack WHEN l.open THEN l.next_us
        ELSE GREATEST(l.next_us, p_now) END
    FROM spent s WHERE l.id = s.id AND (s.n > 0 OR s.live IS NOT NULL)
  ), booked AS (
    INSERT INTO ledger (queue_id, limit_id, worker_id, claimed_us, starts, lanes, tasks, fences)
    -- In step, and in the order granted: every aggregate reads the same rows.
    SELECT p_queue.id, p_limit.id, p_worker, p_now, array_agg(g.start), array_agg(g.lane_id), array_agg(g.task_id), array_agg(g.fence)
    FROM granted g WHERE p_limit.id IS NOT NULL OR v_paced HAVING count(*) > 0
  ), debited AS (
    UPDATE limits l SET
      tat_us = d.offset_us + (p_limit.tat_rem + d.n * l.interval_num) / l.interval_den,
      tat_rem = (p_limit.tat_rem + d.n * l.interval_num) % l.interval_den,
      owed_us = GREATEST(p_limit.owed_us, p_limit.patience_us),
      owed_starts = CASE WHEN GREATEST(p_limit.owed_us, p_limit.patience_us) > 0 THEN p_limit.owed_starts + d.n ELSE 0 END,
      patience_us = p_limit.patience_us
    FROM (SELECT count(*) AS n, GREATEST(p_limit.tat_us, max(g.earliest - g.x)) AS offset_us FROM granted g HAVING count(*) > 0) d
    WHERE l.id = p_limit.id
  )
  SELECT g.task_id::text, g.fence::float8, g.attempt + 1, g.failures, g.max_attempts, g.start::float8, g.lane_id::float8, g.partition, g.name, g.input
  FROM granted g ORDER BY g.i;
END $$;
