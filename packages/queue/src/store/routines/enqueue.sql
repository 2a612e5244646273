-- enqueue: stores tasks and gives each its place at its lane's tail.
-- In: queue id; arrays in step, of which partitions, names and max_attempts may hold one element meant for all; delays
--   (microseconds from now) and dues (instants) are null or in step. Out: nothing. Notifies when a lane opened or a timer was set.
-- Atomicity: one statement of the caller. Lock order: missing lanes by name, then all lanes by ascending id, held to the commit,
--   so that places in a lane follow commits.
CREATE OR REPLACE FUNCTION lock_partitions(p_queue integer, p_partitions text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_names text[] := ARRAY(SELECT DISTINCT p FROM unnest(p_partitions) AS p ORDER BY p);
  v_locked integer;
BEGIN
  LOOP
    INSERT INTO lanes (queue_id, partition)
    SELECT p_queue, p.name FROM unnest(v_names) AS p (name)
    WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.queue_id = p_queue AND l.partition = p.name)
    ORDER BY p.name
    ON CONFLICT DO NOTHING;
    PERFORM 1 FROM lanes l WHERE l.queue_id = p_queue AND l.partition = ANY (v_names) ORDER BY l.id FOR UPDATE;
    GET DIAGNOSTICS v_locked = ROW_COUNT;
    -- Fewer: the pruner removed an idle lane between the two statements.
    EXIT WHEN v_locked = cardinality(v_names);
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION enqueue(
  p_queue integer, p_ids uuid[], p_partitions text[], p_names text[], p_inputs text[], p_max integer[],
  p_delays bigint[], p_dues bigint[]
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_now bigint;
  v_slots integer;
  v_paced boolean;
  v_opened boolean;
  v_places integer[];
BEGIN
  IF cardinality(p_partitions) = 1 AND p_delays IS NULL AND p_dues IS NULL THEN
    PERFORM enqueue_lane(p_queue, p_ids, p_partitions[1], p_names, p_inputs, p_max);
    RETURN;
  END IF;
  PERFORM lock_partitions(p_queue, p_partitions);
  v_now := now_us();
  SELECT q.lane_concurrency, q.lane_interval_num IS NOT NULL INTO v_slots, v_paced FROM queues q WHERE q.id = p_queue;
  IF p_delays IS NOT NULL OR p_dues IS NOT NULL THEN
    PERFORM enqueue_timed(p_queue, p_ids, p_partitions, p_names, p_inputs, p_max, p_delays, p_dues, v_now);
    -- The others take their places now, as if they had come alone.
    v_places := ARRAY(
      SELECT u.ord FROM unnest(p_ids, p_delays, p_dues) WITH ORDINALITY AS u (id, delay, due, ord)
      WHERE COALESCE(u.due, v_now + u.delay, v_now) <= v_now ORDER BY u.ord
    );
    IF cardinality(v_places) > 0 THEN
      PERFORM enqueue(p_queue, pick_each(p_ids::text[], v_places)::uuid[], pick_each(p_partitions, v_places), pick_each(p_names, v_places),
        pick_each(p_inputs, v_places), pick_each(p_max::text[], v_places)::integer[], NULL, NULL);
    END IF;
    RETURN;
  END IF;
  SELECT count(*) > 0 INTO v_opened FROM lanes l
  WHERE l.queue_id = p_queue AND l.partition = ANY (p_partitions) AND NOT l.open AND (v_slots IS NULL OR COALESCE(l.running, 0) < v_slots);
  UPDATE lanes l SET
    tail = l.tail + c.n,
    waiting = l.waiting + c.n,
    turn = CASE WHEN l.open THEN l.turn ELSE nextval('turns') END,
    -- Lanes with a rate stand in the order since when they may start.
    next_us = CASE WHEN l.open OR NOT v_paced THEN l.next_us ELSE GREATEST(l.next_us, v_now) END,
    open = v_slots IS NULL OR COALESCE(l.running, 0) < v_slots
  FROM (
    SELECT COALESCE(u.partition, p_partitions[1]) AS partition, count(*) AS n
    FROM unnest(p_ids, p_partitions) AS u (id, partition) GROUP BY 1
  ) c
  WHERE l.queue_id = p_queue AND l.partition = c.partition;
  IF v_opened THEN PERFORM wake(p_queue); END IF;
  INSERT INTO tasks (id, lane_id, seq, queue_id, state, max_attempts, enqueued_us, name, input)
  SELECT g.id, l.id, l.tail - g.n + g.place, p_queue, 'w', g.max, v_now, g.name, g.input
  FROM (
    SELECT u.id, COALESCE(u.partition, p_partitions[1]) AS partition, COALESCE(u.name, p_names[1]) AS name, u.input,
      COALESCE(u.max, p_max[1]) AS max,
      row_number() OVER w AS place, count(*) OVER (PARTITION BY COALESCE(u.partition, p_partitions[1])) AS n
    FROM unnest(p_ids, p_partitions, p_names, p_inputs, p_max) WITH ORDINALITY AS u (id, partition, name, input, max, ord)
    WINDOW w AS (PARTITION BY COALESCE(u.partition, p_partitions[1]) ORDER BY u.ord)
  ) g
  JOIN lanes l ON l.queue_id = p_queue AND l.partition = g.partition;
END $$;

-- enqueue_lane: as enqueue, for tasks of one partition that may start at once: the way most tasks go, and the shortest.
CREATE OR REPLACE FUNCTION enqueue_lane(
  p_queue integer, p_ids uuid[], p_partition text, p_names text[], p_inputs text[], p_max integer[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_new integer := cardinality(p_ids);
  v_slots integer;
  v_paced boolean;
  v_lane bigint;
  v_tail bigint;
  v_opened boolean;
  v_now bigint;
BEGIN
  SELECT q.lane_concurrency, q.lane_interval_num IS NOT NULL INTO v_slots, v_paced FROM queues q WHERE q.id = p_queue;
  LOOP
    UPDATE lanes l SET
      tail = l.tail + v_new,
      waiting = l.waiting + v_new,
      turn = CASE WHEN l.open THEN l.turn ELSE nextval('turns') END,
      next_us = CASE WHEN l.open OR NOT v_paced THEN l.next_us ELSE GREATEST(l.next_us, now_us()) END,
      open = v_slots IS NULL OR COALESCE(l.running, 0) < v_slots
    WHERE l.queue_id = p_queue AND l.partition = p_partition
    -- Nothing waited before, so it was closed.
    RETURNING l.id, l.tail - v_new, l.open AND l.waiting = v_new INTO v_lane, v_tail, v_opened;
    EXIT WHEN FOUND;
    PERFORM lock_partitions(p_queue, ARRAY[p_partition]);
  END LOOP;
  v_now := now_us();
  INSERT INTO tasks (id, lane_id, seq, queue_id, state, max_attempts, enqueued_us, name, input)
  SELECT u.id, v_lane, v_tail + u.ord, p_queue, 'w', COALESCE(u.max, p_max[1]), v_now, COALESCE(u.name, p_names[1]), u.input
  FROM unnest(p_ids, p_names, p_inputs, p_max) WITH ORDINALITY AS u (id, name, input, max, ord);
  IF v_opened THEN PERFORM wake(p_queue); END IF;
END $$;

-- enqueue_timed: stores those tasks of an enqueue that may start only later: they get no place until they are due.
CREATE OR REPLACE FUNCTION enqueue_timed(
  p_queue integer, p_ids uuid[], p_partitions text[], p_names text[], p_inputs text[], p_max integer[],
  p_delays bigint[], p_dues bigint[], p_now bigint
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  WITH given AS (
    SELECT u.id, l.id AS lane_id, COALESCE(u.name, p_names[1]) AS name, u.input, COALESCE(u.max, p_max[1]) AS max,
      COALESCE(u.due, p_now + u.delay, p_now) AS due
    FROM unnest(p_ids, p_partitions, p_names, p_inputs, p_max, p_delays, p_dues) AS u (id, partition, name, input, max, delay, due)
    JOIN lanes l ON l.queue_id = p_queue AND l.partition = COALESCE(u.partition, p_partitions[1])
    WHERE COALESCE(u.due, p_now + u.delay, p_now) > p_now
  ), timed AS (
    INSERT INTO timers (task_id, queue_id, lane_id, due_us) SELECT g.id, p_queue, g.lane_id, g.due FROM given g
  )
  INSERT INTO tasks (id, lane_id, queue_id, state, max_attempts, enqueued_us, name, input)
  SELECT g.id, g.lane_id, p_queue, 't', g.max, p_now, g.name, g.input FROM given g;
  PERFORM wake(p_queue);
END $$;
