-- schedule: which tasks of locked lanes may start next, round robin, and when. Changes nothing.
-- In: queue; its limit as of now (limit_advance; all null when it has none); lanes and, in step, their live leases (null: not limited); room, lanes and tasks of one
--   serial lane at most; clock; horizon (microseconds); suspects (see suspicion_of). Out: one row per start in order; tat and rem are the lane's schedule before it, x and earliest as below.
-- With E the emission interval, T the burst tolerance (burst - 1)E, e(i) the earliest start of the i-th candidate by its own lane,
-- x(i) = floor((rem + i * num) / den) the exact i-th multiple of E:
--     TAT(i) = x(i) + max(TAT(0), max over m < i of (e(m) - x(m))),   start(i) = max(e(i), TAT(i) - T)
-- which is GCRA's recurrence TAT(i + 1) = max(TAT(i), start(i)) + E in closed form (rounded up where a lane was late).
-- A lane under its own rate and its queue's gets one start at a time: the queue may delay it, and the next depends on by how much.
CREATE OR REPLACE FUNCTION schedule(
  p_queue queues, p_limit limits, p_lanes bigint[], p_live integer[], p_room integer, p_slots integer, p_chain integer,
  p_now bigint, p_horizon bigint, p_suspicion suspicion
) RETURNS TABLE (
  i bigint, lane_id bigint, partition text, task_id uuid, seq bigint, attempt integer, failures integer, max_attempts integer,
  name text, input text, tat bigint, rem bigint, x bigint, earliest bigint, start bigint
)
LANGUAGE plpgsql AS $$
DECLARE
  v_num bigint := COALESCE(p_limit.interval_num, 0);
  v_den bigint := COALESCE(p_limit.interval_den, 1);
  v_slack bigint := ((COALESCE(p_limit.burst, 1) - 1) * v_num) / v_den;
  v_tat bigint := COALESCE(p_limit.tat_us, p_now);
  v_rem bigint := COALESCE(p_limit.tat_rem, 0);
  v_lane_num bigint := COALESCE(p_queue.lane_interval_num, 0);
  v_lane_den bigint := COALESCE(p_queue.lane_interval_den, 1);
  v_lane_slack bigint := ((p_queue.lane_burst - 1) * v_lane_num) / v_lane_den;
  v_lane_debt bigint := deepest_debt(v_lane_num, v_lane_den, p_queue.lane_burst);
  v_depth bigint := CASE WHEN p_queue.lane_interval_num IS NOT NULL AND p_limit.id IS NOT NULL THEN 1
    ELSE 2 * p_room / GREATEST(cardinality(p_lanes), 1) + 1 END;
BEGIN
  RETURN QUERY
  WITH candidate AS (
    -- A lane that was closed until now has its turn after all that stood open.
    SELECT l.id, LEAST(l.head, CASE WHEN l.id = p_suspicion.lane_id THEN p_suspicion.seq END) AS head,
      CASE WHEN l.open THEN l.turn ELSE 9223372036854775807 END AS turn, l.partition,
      GREATEST(0, LEAST(p_room, l.waiting, v_depth,
        CASE WHEN p_queue.lane_concurrency = 1 AND u.live = 0 THEN p_chain ELSE p_queue.lane_concurrency - u.live END,
        CASE WHEN l.id = p_suspicion.lane_id AND p_suspicion.seq < l.head THEN 1 END)) AS room,
      GREATEST(LEAST(l.tat_us, p_now + v_lane_debt), p_now) AS tat, CASE WHEN l.tat_us >= p_now THEN l.tat_rem ELSE 0 END AS rem
    FROM unnest(p_lanes, p_live) AS u (id, live) JOIN lanes l ON l.id = u.id
    WHERE l.waiting > 0 AND (l.next_us <= p_now + p_horizon OR l.next_us > p_now + v_lane_debt)
      AND (p_queue.lane_concurrency IS NULL OR u.live < p_queue.lane_concurrency)
      AND (p_suspicion.held IS NULL OR l.id <> ALL (p_suspicion.held))
    ORDER BY l.next_us, turn LIMIT p_slots
  ), picked AS (
    SELECT c.id AS lane_id, c.turn, c.tat, c.rem, c.partition, t.*,
      GREATEST(p_now, c.tat + (c.rem + (t.place - 1) * v_lane_num) / v_lane_den - v_lane_slack) AS earliest
    FROM candidate c CROSS JOIN LATERAL (
      SELECT w.*, row_number() OVER up AS place, bool_or(w.losses >= 2) OVER up AS held FROM (
        SELECT t.id AS task_id, t.seq, t.attempt, t.failures, t.max_attempts, t.losses, t.name, t.input FROM tasks t
        -- A lookup for each row, whatever the planner's statistics say of runs: planned while that was empty, a join read all of it.
        WHERE t.lane_id = c.id AND t.seq >= c.head AND t.state = 'w' AND (SELECT r.fence FROM runs r WHERE r.task_id = t.id) IS NULL
          AND (t.losses < 2 OR p_suspicion.pass IS NOT TRUE OR t.id = p_suspicion.task_id)
        ORDER BY t.seq LIMIT c.room
      ) w WINDOW up AS (ORDER BY w.seq)
    ) t
    WHERE NOT t.held OR p_suspicion.pass OR (t.place = 1 AND t.task_id = p_suspicion.task_id)
  ), ordered AS (
    SELECT p.*, row_number() OVER (ORDER BY p.earliest, p.place, p.turn) - 1 AS i FROM picked p
    ORDER BY p.earliest, p.place, p.turn LIMIT p_room
  ), placed AS (
    SELECT o.*, (v_rem + o.i * v_num) / v_den AS x FROM ordered o
  ), timed AS (
    SELECT p.*, GREATEST(p.earliest, p.x - v_slack + GREATEST(v_tat, max(p.earliest - p.x) OVER before)) AS start
    FROM placed p WINDOW before AS (ORDER BY p.i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  )
  SELECT t.i, t.lane_id, t.partition, t.task_id, t.seq, t.attempt, t.failures, t.max_attempts, t.name, t.input,
    t.tat, t.rem, t.x, t.earliest, t.start
  FROM timed t WHERE t.start <= p_now + p_horizon ORDER BY t.i;
END $$;
