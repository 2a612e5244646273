-- claim_at_once: as claim, for a queue without any rate or suspects: no schedule to reckon, nothing to debit. The way most tasks go, and the
-- shortest.
CREATE OR REPLACE FUNCTION claim_at_once(
  p_queue queues, p_worker uuid, p_lanes bigint[], p_room integer, p_slots integer, p_chain integer, p_now bigint
) RETURNS TABLE (
  id text, fence double precision, attempt integer, failures integer, max_attempts integer, start_us double precision,
  lane double precision, partition text, name text, input text
)
LANGUAGE plpgsql AS $$
DECLARE
  v_slots integer := p_queue.lane_concurrency;
  v_lanes bigint[] := p_lanes;
  v_live integer[];
  v_depth bigint;
BEGIN
  IF cardinality(p_lanes) > 1 THEN v_lanes := ARRAY(SELECT DISTINCT u FROM unnest(p_lanes) AS u); END IF;
  v_depth := 2 * p_room / GREATEST(cardinality(v_lanes), 1) + 1;
  IF v_slots IS NOT NULL THEN
    v_live := ARRAY(
      SELECT COALESCE(c.n, 0) FROM unnest(v_lanes) WITH ORDINALITY AS u (id, ord)
      LEFT JOIN (SELECT r.lane_slot, count(*)::integer AS n FROM runs r WHERE r.lane_slot = ANY (v_lanes) GROUP BY 1) c ON c.lane_slot = u.id
      ORDER BY u.ord
    );
  ELSIF p_room = 0 THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH candidate AS (
    SELECT l.id, l.head, CASE WHEN l.open THEN l.turn ELSE 9223372036854775807 END AS turn, l.partition,
      GREATEST(0, LEAST(p_room, l.waiting, v_depth, CASE WHEN v_slots = 1 AND u.live = 0 THEN p_chain ELSE v_slots - u.live END)) AS room
    FROM unnest(v_lanes, v_live) AS u (id, live) JOIN lanes l ON l.id = u.id
    WHERE l.waiting > 0 AND (v_slots IS NULL OR u.live < v_slots)
    ORDER BY turn LIMIT p_slots
  ), granted AS MATERIALIZED (
    SELECT o.*, nextval('fences') AS fence FROM (
      SELECT c.id AS lane_id, c.partition, t.*
      FROM candidate c CROSS JOIN LATERAL (
        SELECT w.*, row_number() OVER (ORDER BY w.seq) AS place FROM (
          SELECT t.id AS task_id, t.seq, t.attempt, t.failures, t.max_attempts, t.name, t.input FROM tasks t
          -- A lookup for each row, whatever the planner's statistics say of runs: planned while that was empty, a join read all of it.
          WHERE t.lane_id = c.id AND t.seq >= c.head AND t.state = 'w' AND (SELECT r.fence FROM runs r WHERE r.task_id = t.id) IS NULL
          ORDER BY t.seq LIMIT c.room
        ) w
      ) t
      ORDER BY t.place, c.turn LIMIT p_room
    ) o
  ), leased AS (
    INSERT INTO runs (task_id, queue_id, lane_id, worker_id, fence, attempt, start_us, lane_slot, queue_slot)
    SELECT g.task_id, p_queue.id, g.lane_id, p_worker, g.fence, g.attempt + 1, p_now,
      CASE WHEN v_slots IS NOT NULL THEN g.lane_id END, CASE WHEN p_queue.concurrency IS NOT NULL THEN p_queue.id END
    FROM granted g
  ), moved AS (
    UPDATE lanes l SET
      head = COALESCE(s.last + 1, l.head),
      waiting = l.waiting - s.n,
      running = s.live,
      turn = CASE WHEN l.waiting <= s.n OR s.live >= v_slots OR (l.open AND s.n = 0) THEN l.turn ELSE nextval('turns') END,
      open = l.waiting > s.n AND (s.live IS NULL OR s.live < v_slots)
    FROM (
      SELECT u.id, u.live + COALESCE(m.n, 0) AS live, COALESCE(m.n, 0) AS n, m.last
      FROM unnest(v_lanes, v_live) AS u (id, live) LEFT JOIN (
        SELECT g.lane_id, count(*)::integer AS n, max(g.seq) AS last FROM granted g GROUP BY g.lane_id
      ) m ON m.lane_id = u.id
    ) s
    WHERE l.id = s.id AND (s.n > 0 OR s.live IS NOT NULL)
  )
  SELECT g.task_id::text, g.fence::float8, g.attempt + 1, g.failures, g.max_attempts, p_now::float8, g.lane_id::float8, g.partition, g.name, g.input
  FROM granted g ORDER BY g.fence;
END $$;
