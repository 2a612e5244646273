-- Token bucket, as algorithms/token-bucket.ts has it. The theoretical arrival time is at_us + part / parts.

-- bucket_tokens: the whole tokens in the bucket, capacity - ceil((TAT - now) / E).
CREATE FUNCTION bucket_tokens(p_at bigint, p_part bigint, p_rule limit_rule, p_now bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF p_at < p_now OR (p_at = p_now AND p_part = 0) THEN RETURN p_rule.capacity; END IF;
  IF p_rule.parts = 1 THEN
    RETURN GREATEST(0, p_rule.capacity - (p_at - p_now + p_rule.interval_us - 1) / p_rule.interval_us);
  END IF;
  RETURN GREATEST(0, p_rule.capacity - div(
    (p_at - p_now)::numeric * p_rule.parts + p_part + p_rule.interval_us::numeric * p_rule.parts + p_rule.interval_part - 1,
    p_rule.interval_us::numeric * p_rule.parts + p_rule.interval_part));
END $$;

-- bucket_consume: the bucket as of now, what a cost is answered, and, if it is admitted and p_debit, the bucket without it.
CREATE FUNCTION bucket_consume(k limit_work, p_cost bigint, p_up_to boolean, p_debit boolean, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_cost bigint := CASE WHEN p_up_to THEN 1 ELSE p_cost END;
  v_sum bigint;
BEGIN
  IF k.at_us IS NULL OR k.at_us < p_now - 1 OR (k.at_us < p_now AND k.part = 0) THEN
    k.at_us := p_now;
    k.part := 0;
  ELSIF k.at_us > p_now + p_rule.fill_us + p_rule.horizon_us + p_rule.period_us THEN
    k.at_us := p_now + p_rule.fill_us + p_rule.horizon_us;
    k.part := p_rule.fill_part;
    k.dirty := true;
  END IF;
  k.remaining := CASE WHEN k.at_us <= p_now AND k.part = 0 THEN p_rule.capacity ELSE bucket_tokens(k.at_us, k.part, p_rule, p_now) END;
  k.allowed := v_cost <= k.remaining;
  k.reset_us := GREATEST(p_now, k.at_us + CASE WHEN k.part > 0 THEN 1 ELSE 0 END);
  k.retry_us := 0;
  IF v_cost > p_rule.capacity THEN
    k.retry_us := -1;
  ELSIF NOT k.allowed THEN
    -- When the cost's end of the schedule comes within reach: ceil(TAT + cost E - fill).
    v_sum := k.part + v_cost * p_rule.interval_part;
    k.retry_us := k.at_us + v_cost * p_rule.interval_us + v_sum / p_rule.parts - p_rule.fill_us - p_now
      + CASE WHEN v_sum % p_rule.parts > p_rule.fill_part THEN 1 ELSE 0 END;
  END IF;
  IF NOT p_debit OR NOT k.allowed THEN RETURN k; END IF;
  IF p_up_to THEN v_cost := LEAST(p_cost, k.remaining); END IF;
  v_sum := k.part + v_cost * p_rule.interval_part;
  k.rule := p_rule.id;
  k.dirty := true;
  k.granted := v_cost;
  k.fence := 0;
  k.booked_us := p_now;
  k.at_us := k.at_us + v_cost * p_rule.interval_us + v_sum / p_rule.parts;
  k.part := v_sum % p_rule.parts;
  k.expires_us := k.at_us + 2;
  k.remaining := k.remaining - v_cost;
  k.reset_us := GREATEST(p_now, k.at_us + CASE WHEN k.part > 0 THEN 1 ELSE 0 END);
  RETURN k;
END $$;

-- bucket_owe: debits more than was charged, down to one period beyond empty.
CREATE FUNCTION bucket_owe(k limit_work, p_extra bigint, p_rule limit_rule, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_debit bigint := LEAST(p_extra, p_rule.capacity + p_rule.amount);
  v_rest bigint := v_debit % p_rule.amount;
  v_deepest bigint := p_now + p_rule.fill_us + p_rule.period_us;
BEGIN
  -- A limit's worth takes a period, exactly; only what is left over has fractions.
  k.at_us := k.at_us + v_debit / p_rule.amount * p_rule.period_us + v_rest * p_rule.interval_us
    + (k.part + v_rest * p_rule.interval_part) / p_rule.parts;
  k.part := (k.part + v_rest * p_rule.interval_part) % p_rule.parts;
  IF k.at_us > v_deepest OR (k.at_us = v_deepest AND k.part > p_rule.fill_part) THEN
    k.at_us := v_deepest;
    k.part := p_rule.fill_part;
  END IF;
  RETURN k;
END $$;

-- bucket_is_idle: whether the bucket is full. A fraction of the microsecond that ends now is not past yet.
CREATE FUNCTION bucket_is_idle(k limit_work, p_now bigint) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN k.at_us IS NULL OR CASE WHEN k.part = 0 THEN k.at_us <= p_now ELSE k.at_us + 1 < p_now END;
END $$;

-- bucket_settle: corrects a debit of p_cost booked at p_booked. What may have refilled since is not given back a second time.
CREATE FUNCTION bucket_settle(k limit_work, p_booked bigint, p_cost bigint, p_actual bigint, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_us bigint;
  v_part bigint;
  v_left_us bigint;
  v_left_part bigint;
BEGIN
  k.dirty := true;
  IF p_actual > p_cost THEN RETURN bucket_owe(bucket_consume(k, 1, false, false, p_rule, p_now), p_actual - p_cost, p_rule, p_now); END IF;
  IF bucket_is_idle(k, p_now) THEN RETURN limit_forget(k); END IF;
  k := bucket_consume(k, 1, false, false, p_rule, p_now);
  -- A charge beyond any schedule of the present was made before the clock was set back.
  IF p_booked > p_now + p_rule.fill_us + p_rule.horizon_us THEN RETURN k; END IF;
  v_part := (p_cost - p_actual) * p_rule.interval_part;
  v_us := (p_cost - p_actual) * p_rule.interval_us + v_part / p_rule.parts;
  v_part := v_part % p_rule.parts;
  v_left_part := p_cost * p_rule.interval_part;
  v_left_us := LEAST(0, p_booked - p_now) + p_cost * p_rule.interval_us + v_left_part / p_rule.parts;
  v_left_part := v_left_part % p_rule.parts;
  IF v_us > v_left_us OR (v_us = v_left_us AND v_part > v_left_part) THEN
    v_us := v_left_us;
    v_part := v_left_part;
  END IF;
  IF v_us < 0 THEN RETURN k; END IF;
  k.at_us := k.at_us - v_us - CASE WHEN k.part < v_part THEN 1 ELSE 0 END;
  k.part := k.part - v_part + CASE WHEN k.part < v_part THEN p_rule.parts ELSE 0 END;
  IF bucket_is_idle(k, p_now) THEN RETURN limit_forget(k); END IF;
  RETURN k;
END $$;
