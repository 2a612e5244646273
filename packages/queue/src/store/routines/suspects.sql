-- suspicion_of: what a claim has to know of a queue's suspects (see table suspects): a worker runs one at a time, so that what kills its
-- process is alone with it sooner or later.
-- In: queue; whether a suspect may start; lanes wanted; how far ahead starts may lie; lanes to which the
--   same call may give back tasks (null: none). Called for queues that have rows in suspects.
-- Out: the suspect that may start, its lane and place (null: none): the one lost least, so that what kills its worker every time
--   comes last; whether the others are passed over, or keep their lanes waiting to keep the order; how many wait; the open lanes of which
--   they keep everything back; lanes for the claim to lock, without those.
CREATE OR REPLACE FUNCTION suspicion_of(p_queue queues, p_allowed boolean, p_lanes integer, p_ahead bigint, p_ended bigint[]) RETURNS suspicion
LANGUAGE plpgsql AS $$
DECLARE
  v_ordered boolean := COALESCE(p_queue.lane_concurrency = 1, false) OR COALESCE(p_queue.concurrency = 1, false);
  v_debt bigint := deepest_debt(p_queue.lane_interval_num, p_queue.lane_interval_den, p_queue.lane_burst);
  v_now bigint := now_us();
  v_found suspicion;
BEGIN
  WITH waiting AS MATERIALIZED (
    SELECT t.id, t.lane_id, t.seq, t.losses, l.head, l.waiting, l.next_us,
      row_number() OVER (PARTITION BY t.lane_id ORDER BY t.seq) AS place, count(*) OVER (PARTITION BY t.lane_id) AS n
    FROM suspects s JOIN tasks t ON t.id = s.task_id JOIN lanes l ON l.id = t.lane_id
    WHERE s.queue_id = p_queue.id AND t.state = 'w' AND l.open AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.task_id = t.id)
  ), chosen AS (
    SELECT w.id, w.lane_id, w.seq FROM waiting w
    WHERE p_allowed AND (w.place = 1 OR NOT v_ordered) AND (w.next_us <= v_now + p_ahead OR w.next_us > v_now + v_debt)
    ORDER BY w.losses, w.id LIMIT 1
  ), held AS (
    SELECT w.lane_id FROM waiting w
    WHERE w.place = 1 AND NOT EXISTS (SELECT 1 FROM chosen c WHERE c.lane_id = w.lane_id)
      AND (p_ended IS NULL OR w.lane_id <> ALL (p_ended))
      AND NOT EXISTS (SELECT 1 FROM timers m WHERE m.queue_id = p_queue.id AND m.due_us <= v_now AND m.lane_id = w.lane_id)
      AND CASE WHEN v_ordered THEN NOT EXISTS (
        SELECT 1 FROM tasks t WHERE t.lane_id = w.lane_id AND t.seq >= w.head AND t.seq < w.seq AND t.state = 'w'
          AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.task_id = t.id)
      ) ELSE w.n >= w.waiting END
  )
  SELECT c.id, c.lane_id, c.seq, NOT v_ordered, (SELECT count(*) FROM waiting), ARRAY(SELECT h.lane_id FROM held h), ARRAY(SELECT c.lane_id FROM chosen c)
  INTO v_found FROM (VALUES (1)) AS one LEFT JOIN chosen c ON true;
  v_found.lanes := v_found.lanes || due_lanes(p_queue, v_now, v_now + p_ahead, p_lanes, v_found.held);
  RETURN v_found;
END $$;

-- suspects_clear: forgets those of the given tasks that have ended.
CREATE OR REPLACE FUNCTION suspects_clear(p_ids uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM suspects s USING tasks t WHERE s.task_id = ANY (p_ids) AND t.id = s.task_id AND t.state IN ('d', 'x', 'c');
END $$;
