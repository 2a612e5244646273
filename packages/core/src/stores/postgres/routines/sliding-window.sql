-- Sliding window, as algorithms/sliding-window.ts has it. The log is in ats (instants) and sums (what was admitted up to and with
-- each, counted from part): running sums, so that searches are binary (width_bucket counts the elements up to a value).

-- sliding_consume: the log as of now, what a cost is answered, and, if it is admitted and p_debit, the log with it. held_us is the present, or the last entry if that is later.
CREATE FUNCTION sliding_consume(k limit_work, p_cost bigint, p_up_to boolean, p_debit boolean, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_cost bigint := CASE WHEN p_up_to THEN 1 ELSE p_cost END;
  v_size integer := COALESCE(cardinality(k.ats), 0);
  v_ahead bigint;
  v_left integer;
  v_used bigint := 0;
BEGIN
  k.held_us := p_now;
  IF v_size > 0 THEN
    v_ahead := k.ats[v_size] - p_rule.cell_us + 1 - p_now;
    IF v_ahead > p_rule.period_us THEN
      -- The clock was set back: the log moves with it, by whole cells.
      k.ats := ARRAY(SELECT u.at - (v_ahead - v_ahead % p_rule.cell_us) FROM unnest(k.ats) WITH ORDINALITY AS u (at, ord) ORDER BY u.ord);
      k.dirty := true;
    END IF;
    k.held_us := GREATEST(p_now, k.ats[v_size] - p_rule.cell_us + 1);
    v_left := width_bucket(k.held_us - p_rule.period_us, k.ats);
    IF v_left > 0 THEN
      k.part := k.sums[v_left];
      k.ats := k.ats[v_left + 1:];
      k.sums := k.sums[v_left + 1:];
      v_size := v_size - v_left;
    END IF;
    IF v_size > 0 THEN v_used := k.sums[v_size] - k.part; END IF;
  END IF;
  k.remaining := GREATEST(0, p_rule.capacity - v_used);
  k.allowed := v_used + v_cost <= p_rule.capacity;
  k.reset_us := CASE WHEN v_size = 0 THEN p_now ELSE k.ats[v_size] + p_rule.period_us END;
  k.retry_us := 0;
  IF v_cost > p_rule.capacity THEN
    k.retry_us := -1;
  ELSIF NOT k.allowed THEN
    -- The entry with whose leaving enough will have left.
    k.retry_us := k.ats[1 + width_bucket(k.part + v_used + v_cost - p_rule.capacity - 1, k.sums)] + p_rule.period_us - p_now;
  END IF;
  IF NOT p_debit OR NOT k.allowed THEN RETURN k; END IF;
  IF p_up_to THEN v_cost := LEAST(p_cost, k.remaining); END IF;
  k.rule := p_rule.id;
  k.dirty := true;
  k.granted := v_cost;
  k.fence := 0;
  k := sliding_enter(k, v_cost, p_rule);
  k.booked_us := k.ats[cardinality(k.ats)];
  k.remaining := k.remaining - v_cost;
  k.reset_us := k.booked_us + p_rule.period_us;
  k.expires_us := k.reset_us;
  RETURN k;
END $$;

-- sliding_enter: the log after sliding_consume, with one more entry, or more of the last one if that is of the same cell.
CREATE FUNCTION sliding_enter(k limit_work, p_cost bigint, p_rule limit_rule) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_size integer := COALESCE(cardinality(k.ats), 0);
  v_cell_end bigint := k.held_us - k.held_us % p_rule.cell_us + p_rule.cell_us - 1;
BEGIN
  IF v_size = 0 THEN
    k.part := 0;
    k.ats := ARRAY[v_cell_end];
    k.sums := ARRAY[p_cost];
  ELSIF v_cell_end > k.ats[v_size] THEN
    k.ats := k.ats || v_cell_end;
    k.sums := k.sums || (k.sums[v_size] + p_cost);
  ELSE
    k.sums[v_size] := k.sums[v_size] + p_cost;
  END IF;
  RETURN k;
END $$;

-- sliding_settle: corrects a debit of p_cost booked at p_booked, while its entry is in the log; more is debited at the present, until
-- twice the limit is used.
CREATE FUNCTION sliding_settle(k limit_work, p_booked bigint, p_cost bigint, p_actual bigint, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_size integer;
  v_entry integer;
  v_held bigint;
  v_back bigint;
BEGIN
  k := sliding_consume(k, 1, false, false, p_rule, p_now);
  k.dirty := true;
  v_size := COALESCE(cardinality(k.ats), 0);
  IF p_actual > p_cost THEN
    v_back := LEAST(p_actual - p_cost, 2 * p_rule.capacity - CASE WHEN v_size = 0 THEN 0 ELSE k.sums[v_size] - k.part END);
    RETURN CASE WHEN v_back > 0 THEN sliding_enter(k, v_back, p_rule) ELSE k END;
  END IF;
  v_entry := CASE WHEN v_size = 0 THEN 0 ELSE width_bucket(p_booked, k.ats) END;
  IF v_entry = 0 OR k.ats[v_entry] <> p_booked OR p_actual = p_cost THEN RETURN k; END IF;
  v_held := k.sums[v_entry] - CASE WHEN v_entry = 1 THEN k.part ELSE k.sums[v_entry - 1] END;
  v_back := LEAST(v_held, p_cost - p_actual);
  k.sums := ARRAY(SELECT u.total - CASE WHEN u.ord >= v_entry THEN v_back ELSE 0 END
    FROM unnest(k.sums) WITH ORDINALITY AS u (total, ord) ORDER BY u.ord);
  IF v_back = v_held THEN
    k.ats := k.ats[:v_entry - 1] || k.ats[v_entry + 1:];
    k.sums := k.sums[:v_entry - 1] || k.sums[v_entry + 1:];
  END IF;
  RETURN k;
END $$;
