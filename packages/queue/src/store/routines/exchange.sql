-- exchange: a worker's one round trip. Ends attempts and claims the next tasks in one transaction.
-- In: queue id; worker id; what ended (see settle; null when nothing did) and its lanes; how many tasks are wanted, how many of a
--   serial partition for each of them, and how many at most in all; how far ahead starts may be granted, and how soon at the earliest, so that the answer is there
--   first; how much later than usual they may be used (microseconds; see limit_advance); whether a suspect may be among them.
-- Out: rows of kind 1 = a grant (start_us: not before, on this clock), 4 = the grant of a suspect, 2 = an id that was no longer this worker's to end,
--   3 = this worker's lease is gone, and last one row of kind 0: start_us = the clock, fence = when lanes may have something again,
--   lane = when the next timer is due (null: when woken), attempt = how much later than usual the grants may be used, failures = how
--   many suspects waited.
-- Lock order: lanes by ascending id, queue, limit.
CREATE OR REPLACE FUNCTION exchange(
  p_queue integer, p_worker uuid, p_ids uuid[], p_fences bigint[], p_kinds integer[], p_bodies text[], p_delays bigint[],
  p_lanes bigint[], p_want integer, p_chain integer, p_most integer, p_horizon bigint, p_lead bigint, p_patience bigint,
  p_suspect boolean
) RETURNS TABLE (
  kind integer, id text, fence double precision, attempt integer, failures integer, max_attempts integer, start_us double precision,
  lane double precision, partition text, name text, input text
)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_queue queues;
  v_limit limits;
  v_suspicion suspicion;
  v_suspect text;
  v_alive boolean; v_suspected boolean := false;
  v_now bigint; v_wake bigint; v_timer bigint;
  v_lanes bigint[]; v_ended uuid[];
  v_room integer := 0; v_chain integer := 1; v_given integer := 0;
BEGIN
  -- Whoever changes the queue's definition holds this alone: it is the same to the end of the transaction.
  PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema()), p_queue);
  SELECT * INTO v_queue FROM queues q WHERE q.id = p_queue;
  -- Lanes of what ended matter only where ending changes them.
  IF v_queue.lane_concurrency IS NOT NULL OR p_kinds IS NOT NULL THEN v_lanes := p_lanes; END IF;
  IF p_want > 0 THEN
    IF NOT v_queue.paused THEN
      -- Tasks of a partition that runs one at a time may be taken several at once: the worker runs them one after another.
      IF v_queue.lane_concurrency = 1 AND v_queue.concurrency IS NULL THEN v_chain := p_chain; END IF;
      v_room := LEAST(p_want * v_chain, p_most);
    END IF;
    SELECT o.alive, o.timer_us, v_lanes || o.lanes, o.suspected INTO v_alive, v_timer, v_lanes, v_suspected
      FROM outlook(v_queue, p_worker, LEAST(v_room, p_want), p_lead, p_horizon) o;
    IF v_suspected THEN
      v_suspicion := suspicion_of(v_queue, p_suspect, LEAST(v_room, p_want), p_lead + p_horizon, CASE WHEN p_kinds IS NOT NULL THEN p_lanes END);
      v_lanes := v_lanes || v_suspicion.lanes; v_suspect := v_suspicion.task_id;
    END IF;
    IF NOT v_alive THEN
      p_want := 0; v_room := 0; kind := 3;
      RETURN NEXT;
    END IF;
  END IF;
  PERFORM 1 FROM lanes l WHERE l.id = ANY (v_lanes) ORDER BY l.id FOR UPDATE;
  v_now := now_us();
  IF p_ids IS NOT NULL THEN
    v_ended := settle(v_queue, p_ids, p_fences, p_kinds, p_bodies, p_delays, v_now);
    IF cardinality(v_ended) < cardinality(p_ids) THEN
      RETURN QUERY SELECT 2, g::text, NULL::float8, NULL::integer, NULL::integer, NULL::integer, NULL::float8, NULL::float8, NULL::text, NULL::text, NULL::text
        FROM unnest(p_ids) AS g WHERE g <> ALL (v_ended);
    END IF;
    IF v_suspected THEN PERFORM suspects_clear(v_ended); END IF;
  END IF;
  -- A retry without delay that was just settled is due now too.
  IF p_want > 0 AND (v_timer <= v_now OR p_kinds IS NOT NULL) THEN
    PERFORM promote(v_queue, v_lanes, v_now);
  END IF;
  -- Locked last and so for the shortest time: all workers of the queue meet here.
  IF v_room > 0 AND v_queue.concurrency IS NOT NULL THEN
    PERFORM 1 FROM queues q WHERE q.id = p_queue FOR NO KEY UPDATE;
    v_room := GREATEST(0, LEAST(v_room, v_queue.concurrency - (SELECT count(*) FROM runs r WHERE r.queue_slot = p_queue)));
  END IF;
  IF v_room > 0 AND v_queue.limit_id IS NOT NULL THEN
    SELECT * INTO v_limit FROM limits l WHERE l.id = v_queue.limit_id FOR NO KEY UPDATE;
    v_now := now_us();
    v_room := slots_until(v_limit, v_now + p_lead, p_horizon, v_room);
    v_limit := limit_advance(v_limit, v_now + p_lead, v_room, CASE WHEN v_queue.lane_interval_num IS NULL THEN p_patience ELSE 0 END);
  END IF;
  IF v_lanes <> '{}' AND v_queue.limit_id IS NULL AND v_queue.lane_interval_num IS NULL AND NOT v_suspected THEN
    RETURN QUERY SELECT 1, c.* FROM claim_at_once(v_queue, p_worker, v_lanes, v_room, p_want, v_chain, v_now + p_lead) c;
    GET DIAGNOSTICS v_given = ROW_COUNT;
  ELSIF v_lanes <> '{}' THEN
    RETURN QUERY SELECT CASE WHEN c.id = v_suspect THEN 4 ELSE 1 END, c.*
      FROM claim(v_queue, v_limit, p_worker, v_lanes, v_room, p_want, v_chain, v_now + p_lead, p_horizon, v_suspicion) c;
    GET DIAGNOSTICS v_given = ROW_COUNT;
  END IF;
  SELECT w.lane_us, w.timer_us INTO v_wake, v_timer FROM next_wake(v_queue, v_now, v_suspicion.held) w;
  -- Slots that this call freed and did not use are for others to take.
  IF p_ids IS NOT NULL AND v_given >= p_want AND v_wake <= v_now
    AND (p_kinds IS NOT NULL OR v_queue.lane_concurrency IS NOT NULL OR v_queue.concurrency IS NOT NULL) THEN
    PERFORM wake(p_queue);
  END IF;
  kind := 0; start_us := v_now;
  fence := v_wake; lane := v_timer;
  attempt := v_limit.patience_us; failures := v_suspicion.waiting;
  RETURN NEXT;
END $$;

-- outlook: what a claim looks at before it locks anything. In: queue, worker, lanes wanted, lead and horizon (see exchange).
-- Out: whether the worker's lease stands, when the next timer is due, and the lanes to lock: those next in turn that may start until
--   then, and those with timers due; whether the queue has suspects. The worker's row is not locked: what it is granted while its lease ends is taken back by the next rescue.
CREATE OR REPLACE FUNCTION outlook(
  p_queue queues, p_worker uuid, p_lanes integer, p_lead bigint, p_horizon bigint,
  OUT alive boolean, OUT timer_us bigint, OUT lanes bigint[], OUT suspected boolean
)
LANGUAGE plpgsql AS $$
DECLARE
  v_rated boolean := p_queue.limit_id IS NOT NULL OR p_queue.lane_interval_num IS NOT NULL;
  v_now bigint;
BEGIN
  -- One statement: on an idle server, touching a statement at all costs more than running it.
  SELECT EXISTS (SELECT 1 FROM workers w WHERE w.id = p_worker),
    (SELECT m.due_us FROM timers m WHERE m.queue_id = p_queue.id ORDER BY m.due_us LIMIT 1),
    CASE WHEN NOT v_rated THEN ARRAY(SELECT l.id FROM lanes l WHERE l.queue_id = p_queue.id AND l.open ORDER BY l.next_us, l.turn LIMIT p_lanes) END,
    EXISTS (SELECT 1 FROM suspects s WHERE s.queue_id = p_queue.id)
    INTO alive, timer_us, lanes, suspected;
  v_now := now_us();
  IF v_rated THEN
    lanes := due_lanes(p_queue, v_now, v_now + p_lead + p_horizon, slots_until(
      (SELECT l FROM limits l WHERE l.id = p_queue.limit_id), v_now + p_lead, p_horizon, p_lanes), NULL);
  END IF;
  IF timer_us <= v_now THEN
    lanes := lanes || ARRAY(SELECT m.lane_id FROM timers m WHERE m.queue_id = p_queue.id AND m.due_us <= v_now ORDER BY m.due_us LIMIT 500);
  END IF;
END $$;

-- due_lanes: the lanes that a claim under a rate will need locked: those next in turn that may start until then,
-- but for those of which suspects keep everything back (null: none).
CREATE OR REPLACE FUNCTION due_lanes(p_queue queues, p_now bigint, p_until bigint, p_room integer, p_held bigint[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
BEGIN
  RETURN ARRAY(
    SELECT l.id FROM lanes l
    WHERE l.queue_id = p_queue.id AND l.open AND l.next_us <= p_until AND (p_held IS NULL OR l.id <> ALL (p_held))
    ORDER BY l.next_us, l.turn LIMIT p_room
  ) || ARRAY(
    SELECT l.id FROM lanes l
    WHERE l.queue_id = p_queue.id AND l.open AND (p_held IS NULL OR l.id <> ALL (p_held))
      AND l.next_us > p_now + deepest_debt(p_queue.lane_interval_num, p_queue.lane_interval_den, p_queue.lane_burst)
    ORDER BY l.next_us DESC LIMIT p_room
  );
END $$;

-- next_wake: when a claim on this queue may grant something more: by its lanes and its limit's schedule, and by its timers.
-- Lanes that suspects keep back (null: none) are looked at again in a while: the end of a suspect on another worker wakes nobody.
-- Null: only news can change that.
CREATE OR REPLACE FUNCTION next_wake(p_queue queues, p_now bigint, p_held bigint[], OUT lane_us bigint, OUT timer_us bigint)
LANGUAGE plpgsql AS $$
BEGIN
  IF p_queue.paused THEN RETURN; END IF;
  SELECT (SELECT m.due_us FROM timers m WHERE m.queue_id = p_queue.id ORDER BY m.due_us LIMIT 1),
    (SELECT l.next_us FROM lanes l WHERE l.queue_id = p_queue.id AND l.open AND (p_held IS NULL OR l.id <> ALL (p_held)) ORDER BY l.next_us LIMIT 1)
    INTO timer_us, lane_us;
  IF p_held <> '{}' THEN lane_us := LEAST(lane_us, p_now + 250000); END IF;
  IF lane_us IS NULL THEN RETURN; END IF;
  lane_us := LEAST(lane_us, p_now + deepest_debt(p_queue.lane_interval_num, p_queue.lane_interval_den, p_queue.lane_burst));
  IF p_queue.concurrency IS NOT NULL
    AND (SELECT count(*) FROM runs r WHERE r.queue_slot = p_queue.id) >= p_queue.concurrency THEN
    lane_us := NULL;
  ELSIF p_queue.limit_id IS NOT NULL THEN
    SELECT GREATEST(lane_us, LEAST(l.tat_us, p_now + deepest_debt(l.interval_num, l.interval_den, l.burst))
      - ((l.burst - 1) * l.interval_num) / l.interval_den) INTO lane_us
    FROM limits l WHERE l.id = p_queue.limit_id;
  END IF;
END $$;
