-- The one way in: a list of things asked of a list of keys, one after the other, in one statement.

-- limit_now: this server's clock in microseconds since 1970. Not now(): that is the transaction's start.
CREATE FUNCTION limit_now() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- limit_load: the keys with their rows, locked in the order of the list if p_lock: as every caller sorts its list alike, no two wait
-- for each other.
CREATE FUNCTION limit_load(p_row_keys text[], p_lock boolean) RETURNS limit_work[]
LANGUAGE plpgsql AS $$
DECLARE
  v_places integer[];
  v_found limit_work[];
  v_keys limit_work[];
BEGIN
  IF p_lock THEN
    SELECT array_agg(r.ord), array_agg(r.work) INTO v_places, v_found FROM (
      SELECT u.ord::integer, ROW(t.row_key, t.rule, t.at_us, t.part, t.ats, t.sums, t.ends, t.block_until_us, t.block_for_us, t.expires_us,
      t.ctid, false, NULL, NULL, 0, 0, 0, 0, 0, 0)::limit_work AS work
      FROM unnest(p_row_keys) WITH ORDINALITY AS u (wanted, ord) JOIN limit_keys t ON t.row_key = u.wanted
      ORDER BY u.ord FOR UPDATE OF t
    ) r;
  ELSE
    SELECT array_agg(u.ord::integer), array_agg(ROW(t.row_key, t.rule, t.at_us, t.part, t.ats, t.sums, t.ends, t.block_until_us, t.block_for_us, t.expires_us,
      t.ctid, false, NULL, NULL, 0, 0, 0, 0, 0, 0)::limit_work)
    INTO v_places, v_found
    FROM unnest(p_row_keys) WITH ORDINALITY AS u (wanted, ord) JOIN limit_keys t ON t.row_key = u.wanted;
  END IF;
  IF cardinality(v_found) = cardinality(p_row_keys) AND p_lock THEN RETURN v_found; END IF;
  FOR i IN 1..cardinality(p_row_keys) LOOP
    v_keys[i] := ROW(p_row_keys[i], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, false, NULL, NULL, 0, 0, 0, 0, 0, 0)::limit_work;
  END LOOP;
  FOR i IN 1..COALESCE(cardinality(v_found), 0) LOOP
    v_keys[v_places[i]] := v_found[i];
  END LOOP;
  RETURN v_keys;
END $$;

-- limit_under: a key that was last used under another rule, under this one.
CREATE FUNCTION limit_under(k limit_work, p_rule limit_rule, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_constants bigint[];
BEGIN
  SELECT r.constants INTO v_constants FROM limit_rules r WHERE r.id = k.rule;
  -- Only after a restore in parts: what the row says cannot be read without its rule.
  IF v_constants IS NULL THEN RETURN limit_forget(k); END IF;
  RETURN limit_convert(k, (limit_rules_of(v_constants))[1], p_rule, p_now);
END $$;

-- limit_store: writes the keys that changed, those with a row where it was found: it is locked, so it is there still. New ones come
-- last and in order. One that somebody else has made meanwhile undoes it all, and the caller asks again: it has to be read first.
CREATE FUNCTION limit_store(p_keys limit_work[], p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_left integer := 0;
  v_new integer := 0;
  v_made integer;
  k limit_work;
BEGIN
  FOREACH k IN ARRAY p_keys LOOP
    IF NOT k.dirty THEN CONTINUE;
    ELSIF k.place IS NOT NULL THEN v_left := v_left + 1;
    ELSIF GREATEST(k.expires_us, k.block_until_us) > p_now THEN v_new := v_new + 1;
    END IF;
  END LOOP;
  IF v_left > 0 THEN
    UPDATE limit_keys t SET rule = u.rule, at_us = u.at_us, part = u.part, ats = u.ats, sums = u.sums, ends = u.ends,
      block_until_us = u.block_until_us, block_for_us = u.block_for_us, expires_us = GREATEST(u.expires_us, u.block_until_us)
    FROM unnest(p_keys) AS u WHERE t.ctid = u.place AND u.dirty;
    GET DIAGNOSTICS v_made = ROW_COUNT;
  END IF;
  IF v_made < v_left THEN RAISE EXCEPTION 'a locked row has moved' USING ERRCODE = '40001'; END IF;
  IF v_new > 0 THEN
    INSERT INTO limit_keys (row_key, rule, at_us, part, ats, sums, ends, block_until_us, block_for_us, expires_us)
    SELECT u.row_key, u.rule, u.at_us, u.part, u.ats, u.sums, u.ends, u.block_until_us, u.block_for_us, GREATEST(u.expires_us, u.block_until_us)
    FROM unnest(p_keys) WITH ORDINALITY AS u
    WHERE u.place IS NULL AND u.dirty AND GREATEST(u.expires_us, u.block_until_us) > p_now ORDER BY u.ordinality
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_made = ROW_COUNT;
    IF v_made < v_new THEN RAISE EXCEPTION 'a key was first used by two at once' USING ERRCODE = '40001'; END IF;
    PERFORM limit_prune(v_made, p_now);
  END IF;
END $$;

-- limit_prune: deletes what has long expired on pages taken at random, one for eight new rows, which is some four rows for each. So the
-- table stays within a small multiple of the keys in use, without a timer, a sweep or an index. Rows that somebody has locked are in use.
-- A minute's grace: a clock that is set back by less finds every key it knew.
CREATE FUNCTION limit_prune(p_new integer, p_now bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_pages bigint := pg_relation_size('limit_keys') / 8192;
  v_page bigint;
BEGIN
  FOR i IN 0..p_new / 8 LOOP
    v_page := floor(random() * v_pages);
    DELETE FROM limit_keys WHERE ctid = ANY (ARRAY(
      SELECT k.ctid FROM limit_keys k
      WHERE k.ctid >= format('(%s,0)', v_page)::tid AND k.ctid < format('(%s,0)', v_page + 1)::tid AND k.expires_us + 60000000 < p_now
      FOR UPDATE SKIP LOCKED));
  END LOOP;
END $$;

-- limit_ask. In: keys, each once, ascending by the callers' order; rules (limit_rules_of); asks, six numbers each: key, rule, op,
-- amount, booking, charge; whether to lock, which all but peeks need; a clock for tests, else null.
-- Op 10 begins a draw on several keys, which is all or nothing: its booking is how many asks it has, itself included.
-- Out: the time, and of each ask six numbers: what was granted (-1: denied), remaining, retry after, reset and booking (both counted from the
-- time), fence.
CREATE FUNCTION limit_ask(p_row_keys text[], p_rules bigint[], p_asks bigint[], p_lock boolean, p_clock bigint) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
  v_rules limit_rule[] := limit_rules_of(p_rules);
  v_keys limit_work[] := limit_load(p_row_keys, p_lock);
  -- After the locks: whoever had to wait for one is answered as of when it got it.
  v_now bigint := COALESCE(p_clock, limit_now());
  v_out bigint[] := array_fill(0::bigint, ARRAY[cardinality(p_asks) + 1]);
  v_ask integer := 0;
  v_last integer;
  v_admitted boolean;
  v_op bigint;
  s integer;
  v_rule limit_rule;
  v_taken limit_work[];
  k limit_work;
BEGIN
  v_out[1] := v_now;
  WHILE v_ask < cardinality(p_asks) LOOP
    v_op := p_asks[v_ask + 3];
    v_last := v_ask + CASE WHEN v_op = 10 THEN 6 * (p_asks[v_ask + 5]::integer - 1) ELSE 0 END;
    -- A draw on several keys is tried, and if one refuses it, all are only looked at.
    FOR v_pass IN 1..2 LOOP
      v_admitted := true;
      IF v_op = 10 THEN v_taken := '{}'; END IF;
      FOR o IN v_ask..v_last BY 6 LOOP
        s := p_asks[o + 1];
        v_rule := v_rules[p_asks[o + 2]];
        k := v_keys[s];
        IF k.rule <> v_rule.id THEN k := limit_under(k, v_rule, v_now); END IF;
        IF v_op < 4 OR v_op = 10 THEN
          k := limit_consume(k, p_asks[o + 4], v_op = 2, v_op <> 3 AND v_pass = 1, v_rule, v_now);
        ELSE
          k := limit_step(k, v_op, p_asks[o + 4], p_asks[o + 5], p_asks[o + 6], v_rule, v_now);
        END IF;
        IF v_op = 10 THEN
          v_taken := v_taken || k;
          v_admitted := v_admitted AND k.allowed;
        ELSIF v_op <> 3 THEN
          v_keys[s] := k;
        END IF;
        v_out[o + 2] := CASE WHEN k.allowed IS FALSE THEN -1 ELSE k.granted END;
        v_out[o + 3] := k.remaining;
        v_out[o + 4] := k.retry_us;
        v_out[o + 5] := k.reset_us - v_now;
        v_out[o + 6] := k.booked_us - v_now;
        v_out[o + 7] := k.fence;
      END LOOP;
      EXIT WHEN v_admitted;
    END LOOP;
    IF v_op = 10 AND v_admitted THEN
      FOR i IN 1..cardinality(v_taken) LOOP
        v_keys[p_asks[v_ask + 6 * i - 5]] := v_taken[i];
      END LOOP;
    END IF;
    v_ask := v_last + 6;
  END LOOP;
  IF p_lock THEN PERFORM limit_store(v_keys, v_now); END IF;
  RETURN v_out::text;
END $$;

-- limit_learn: makes rules known, so that a key that was last used under another one can be converted.
CREATE FUNCTION limit_learn(p_rules bigint[]) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT
BEGIN ATOMIC
  INSERT INTO limit_rules (id, constants)
  SELECT p_rules[13 * i + 1], p_rules[13 * i + 1:13 * i + 13] FROM generate_series(0, cardinality(p_rules) / 13 - 1) AS i ORDER BY 1
  ON CONFLICT DO NOTHING;
END;
