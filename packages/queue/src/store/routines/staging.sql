-- Enqueueing inside a caller's own transaction: the call is kept in `staged` and carried out by a deferred trigger when the
-- transaction commits, so that lanes are locked for the commit only and places follow the order of commits.
CREATE OR REPLACE FUNCTION enqueue_or_stage(
  p_queue integer, p_ids uuid[], p_partitions text[], p_names text[], p_inputs text[], p_max integer[],
  p_delays bigint[], p_dues bigint[], p_stage boolean
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
  IF p_stage THEN
    INSERT INTO staged (queue_id, ids, partitions, names, inputs, max_attempts, delays, dues)
    VALUES (p_queue, p_ids, p_partitions, p_names, p_inputs, p_max, p_delays, p_dues);
  ELSE
    PERFORM enqueue(p_queue, p_ids, p_partitions, p_names, p_inputs, p_max, p_delays, p_dues);
  END IF;
END $$;

-- place_staged: carries out all staged calls of this transaction at the first firing; later firings find none.
CREATE OR REPLACE FUNCTION place_staged() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_call record;
BEGIN
  FOR v_call IN
    SELECT s.queue_id, array_agg(DISTINCT p.name) AS partitions
    FROM staged s CROSS JOIN LATERAL unnest(s.partitions) AS p (name)
    WHERE s.xact = pg_current_xact_id() GROUP BY s.queue_id ORDER BY s.queue_id
  LOOP
    PERFORM lock_partitions(v_call.queue_id, v_call.partitions);
  END LOOP;
  FOR v_call IN SELECT * FROM staged s WHERE s.xact = pg_current_xact_id() ORDER BY s.id LOOP
    PERFORM enqueue(v_call.queue_id, v_call.ids, v_call.partitions, v_call.names, v_call.inputs, v_call.max_attempts,
      v_call.delays, v_call.dues);
  END LOOP;
  DELETE FROM staged s WHERE s.xact = pg_current_xact_id();
  RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS staged_commit ON staged;
CREATE CONSTRAINT TRIGGER staged_commit AFTER INSERT ON staged
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION place_staged();
