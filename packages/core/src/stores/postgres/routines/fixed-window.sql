-- Fixed window, as algorithms/fixed-window.ts has it. The window begins at at_us, and part of it is used.

-- window_consume: the window that counts now, what a cost is answered, and, if it is admitted and p_debit, the window with it.
CREATE FUNCTION window_consume(k limit_work, p_cost bigint, p_up_to boolean, p_debit boolean, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_cost bigint := CASE WHEN p_up_to THEN 1 ELSE p_cost END;
  v_start bigint := CASE WHEN p_rule.on_calendar = 1 THEN p_now - p_now % p_rule.period_us ELSE p_now END;
BEGIN
  IF k.at_us IS NULL OR k.part = 0 OR k.at_us + p_rule.period_us <= p_now THEN
    k.at_us := v_start;
    k.part := 0;
  ELSIF k.at_us - p_now > p_rule.period_us THEN
    -- On the calendar the present window may be about to end, and would make room for a third one within a period.
    k.at_us := v_start + CASE WHEN p_rule.on_calendar = 1 THEN p_rule.period_us ELSE 0 END;
    k.dirty := true;
  END IF;
  k.remaining := GREATEST(0, p_rule.capacity - k.part);
  k.allowed := k.part + v_cost <= p_rule.capacity;
  k.reset_us := CASE WHEN k.part = 0 THEN p_now ELSE k.at_us + p_rule.period_us END;
  k.retry_us := CASE WHEN k.allowed THEN 0 WHEN v_cost > p_rule.capacity THEN -1 ELSE k.at_us + p_rule.period_us - p_now END;
  IF NOT p_debit OR NOT k.allowed THEN RETURN k; END IF;
  IF p_up_to THEN v_cost := LEAST(p_cost, k.remaining); END IF;
  k.rule := p_rule.id;
  k.dirty := true;
  k.granted := v_cost;
  k.fence := 0;
  k.part := k.part + v_cost;
  k.booked_us := GREATEST(p_now, k.at_us);
  k.remaining := k.remaining - v_cost;
  k.reset_us := k.at_us + p_rule.period_us;
  k.expires_us := k.reset_us;
  RETURN k;
END $$;

-- window_settle: corrects a debit of p_cost booked at p_booked, while its window lasts; more is debited to the present one, until
-- twice the limit is used.
CREATE FUNCTION window_settle(k limit_work, p_booked bigint, p_cost bigint, p_actual bigint, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  k := window_consume(k, 1, false, false, p_rule, p_now);
  k.dirty := true;
  IF p_actual > p_cost THEN
    k.part := GREATEST(k.part, LEAST(k.part + p_actual - p_cost, 2 * p_rule.capacity));
  ELSIF k.at_us <= p_booked AND p_booked < k.at_us + p_rule.period_us THEN
    k.part := GREATEST(0, k.part + p_actual - p_cost);
  END IF;
  RETURN k;
END $$;
