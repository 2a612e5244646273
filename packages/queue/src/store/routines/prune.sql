-- prune: removes what nobody may ask for any more, a bounded batch a call. Never a live task, nor a ledger row or key within its window.
-- In: the id to go on from; batch size; how long ledger rows are kept at least (microseconds).
-- Out: how many tasks went; the id to go on from (null: the walk is over, start anew).
CREATE OR REPLACE FUNCTION prune(p_after uuid, p_batch integer, p_ledger bigint) RETURNS TABLE (removed integer, next_id text)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_now bigint := now_us();
  v_seen uuid[];
  v_gone uuid[];
  -- Ids begin with the millisecond of the enqueue: what was enqueued within the shortest retention need not be looked at.
  v_youngest uuid := rpad(lpad(to_hex((v_now - (SELECT COALESCE(min(q.retention_us), 0) FROM queues q)) / 1000), 12, '0'), 32, '0')::uuid;
BEGIN
  v_seen := ARRAY(SELECT t.id FROM tasks t WHERE t.id > p_after AND t.id < v_youngest ORDER BY t.id LIMIT p_batch);
  WITH gone AS (
    DELETE FROM tasks t USING queues q
    WHERE t.id = ANY (v_seen) AND q.id = t.queue_id AND t.state IN ('d', 'x', 'c') AND t.finished_us < v_now - q.retention_us
    RETURNING t.id
  )
  SELECT array_agg(g.id) INTO v_gone FROM gone g;
  DELETE FROM steps s WHERE s.task_id = ANY (v_gone);
  DELETE FROM idempotency i WHERE (i.queue_id, i.key) IN (
    SELECT j.queue_id, j.key FROM idempotency j WHERE j.expires_us < v_now ORDER BY j.expires_us LIMIT p_batch FOR UPDATE SKIP LOCKED
  );
  DELETE FROM ledger l WHERE l.id IN (
    SELECT k.id FROM ledger k ORDER BY k.id LIMIT p_batch
  ) AND l.claimed_us < v_now - GREATEST(p_ledger,
    2 * (SELECT COALESCE(max(m.period_us), 0) FROM limits m), 2 * (SELECT COALESCE(max(q.lane_period_us), 0) FROM queues q));
  DELETE FROM suspects s WHERE s.task_id IN (
    SELECT u.task_id FROM suspects u WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = u.task_id AND t.state IN ('w', 't'))
    ORDER BY u.task_id LIMIT p_batch FOR UPDATE SKIP LOCKED
  );
  removed := COALESCE(cardinality(v_gone), 0);
  next_id := CASE WHEN cardinality(v_seen) = p_batch THEN v_seen[p_batch]::text END;
  RETURN NEXT;
END $$;

-- prune_lanes: removes lanes that have nothing waiting, running or timed, hold no finished task that may be retried, and whose
-- own rate is full again. Out: how many.
CREATE OR REPLACE FUNCTION prune_lanes(p_batch integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  v_count integer;
BEGIN
  DELETE FROM lanes l WHERE l.id IN (
    SELECT m.id FROM lanes m
    WHERE m.waiting = 0 AND NOT m.open AND m.tat_us < now_us() AND COALESCE(m.running, 0) = 0
      AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.lane_id = m.id)
    ORDER BY m.id LIMIT p_batch FOR UPDATE SKIP LOCKED
  ) AND l.waiting = 0;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;
