-- enqueue_unique: as enqueue, for calls in which some task carries an idempotency key.
-- In: the arguments of enqueue; keys in step (null: none); digests of what each key stands for; how long each key is kept
--   (microseconds). Out: one row per task that an earlier one with the same key stands for (place from 1, that task's id).
-- A key that stands for something else raises SL001 and stores nothing. Keys are taken in ascending order, before any lane.
CREATE OR REPLACE FUNCTION enqueue_unique(
  p_queue integer, p_ids uuid[], p_partitions text[], p_names text[], p_inputs text[], p_max integer[],
  p_delays bigint[], p_dues bigint[], p_keys text[], p_digests text[], p_keeps bigint[], p_stage boolean
) RETURNS TABLE (place integer, id text)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_now bigint := now_us();
  v_owners uuid[];
  v_taken text;
  v_new integer[];
BEGIN
  INSERT INTO idempotency AS i (queue_id, key, task_id, digest, expires_us)
  SELECT DISTINCT ON (g.key) p_queue, g.key, g.id, g.digest, v_now + g.keep
  FROM unnest(p_ids, p_keys, p_digests, p_keeps) WITH ORDINALITY AS g (id, key, digest, keep, ord)
  WHERE g.key IS NOT NULL ORDER BY g.key, g.ord
  ON CONFLICT (queue_id, key) DO UPDATE SET task_id = EXCLUDED.task_id, digest = EXCLUDED.digest, expires_us = EXCLUDED.expires_us
    WHERE i.expires_us <= v_now;
  SELECT array_agg(COALESCE(i.task_id, g.id) ORDER BY g.ord), min(g.key) FILTER (WHERE i.digest <> g.digest)
  INTO v_owners, v_taken
  FROM unnest(p_ids, p_keys, p_digests) WITH ORDINALITY AS g (id, key, digest, ord)
  LEFT JOIN idempotency i ON i.queue_id = p_queue AND i.key = g.key;
  IF v_taken IS NOT NULL THEN
    RAISE EXCEPTION 'idempotency key % stands for another task', v_taken USING ERRCODE = 'SL001', DETAIL = v_taken;
  END IF;
  v_new := ARRAY(SELECT g.ord FROM unnest(p_ids, v_owners) WITH ORDINALITY AS g (id, owner, ord) WHERE g.id = g.owner ORDER BY g.ord);
  IF cardinality(v_new) > 0 THEN
    PERFORM enqueue_or_stage(p_queue, pick_each(p_ids::text[], v_new)::uuid[], pick_each(p_partitions, v_new), pick_each(p_names, v_new),
      pick_each(p_inputs, v_new), pick_each(p_max::text[], v_new)::integer[], pick_each(p_delays::text[], v_new)::bigint[],
      pick_each(p_dues::text[], v_new)::bigint[], p_stage);
  END IF;
  RETURN QUERY SELECT g.ord::integer, g.owner::text
    FROM unnest(p_ids, v_owners) WITH ORDINALITY AS g (id, owner, ord) WHERE g.id <> g.owner;
END $$;

-- pick_each: the elements at the given places; an array of one element stands for all and stays as it is.
CREATE OR REPLACE FUNCTION pick_each(p_all text[], p_places integer[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF p_all IS NULL OR cardinality(p_all) = 1 THEN RETURN p_all; END IF;
  RETURN ARRAY(SELECT p_all[u.place] FROM unnest(p_places) WITH ORDINALITY AS u (place, ord) ORDER BY u.ord);
END $$;
