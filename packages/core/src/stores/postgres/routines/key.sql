-- What can be done to one key, as algorithms/key-state.ts has it.

-- limit_settle: corrects a debit of p_cost booked at p_booked to p_actual.
CREATE FUNCTION limit_settle(k limit_work, p_booked bigint, p_cost bigint, p_actual bigint, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  k.rule := p_rule.id;
  CASE p_rule.algorithm
    WHEN 1 THEN RETURN bucket_settle(k, p_booked, p_cost, p_actual, p_rule, p_now);
    WHEN 2 THEN RETURN sliding_settle(k, p_booked, p_cost, p_actual, p_rule, p_now);
    ELSE RETURN window_settle(k, p_booked, p_cost, p_actual, p_rule, p_now);
  END CASE;
END $$;

-- limit_block_at: the key with its block as of now: gone when it is over, at its own length when the clock was set back far.
CREATE FUNCTION limit_block_at(k limit_work, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF k.block_until_us <= p_now THEN
    k.block_until_us := NULL;
    k.block_for_us := NULL;
    k.dirty := true;
  ELSIF k.block_until_us - p_now > 2 * k.block_for_us THEN
    k.block_until_us := p_now + k.block_for_us;
    k.dirty := true;
  END IF;
  RETURN k;
END $$;

-- limit_consume: debits a cost if it is admitted, or with p_up_to as much of it as is. With p_debit false it only answers.
CREATE FUNCTION limit_consume(k limit_work, p_cost bigint, p_up_to boolean, p_debit boolean, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v limit_work;
  v_debit boolean := p_debit;
BEGIN
  IF k.block_until_us IS NOT NULL THEN
    k := limit_block_at(k, p_now);
    v_debit := v_debit AND k.block_until_us IS NULL;
  END IF;
  CASE p_rule.algorithm
    WHEN 1 THEN v := bucket_consume(k, p_cost, p_up_to, v_debit, p_rule, p_now);
    WHEN 2 THEN v := sliding_consume(k, p_cost, p_up_to, v_debit, p_rule, p_now);
    WHEN 3 THEN v := window_consume(k, p_cost, p_up_to, v_debit, p_rule, p_now);
    ELSE v := lease_consume(k, p_cost, p_up_to, v_debit, p_rule, p_now);
  END CASE;
  IF v_debit AND v.allowed THEN RETURN v; END IF;
  IF k.block_until_us IS NULL THEN RETURN limit_spare(k, v, p_rule, p_now); END IF;
  RETURN limit_refuse(k, v, p_now);
END $$;

-- limit_spare: the answer v when nothing was debited: the budget of k stays as it was, unless it had to be set right.
CREATE FUNCTION limit_spare(k limit_work, v limit_work, p_rule limit_rule, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  v.granted := 0;
  v.booked_us := p_now;
  v.fence := 0;
  IF v.dirty THEN
    v.expires_us := limit_expiry(v, p_rule);
    RETURN v;
  END IF;
  v.at_us := k.at_us;
  v.part := k.part;
  v.ats := k.ats;
  v.sums := k.sums;
  RETURN v;
END $$;

-- limit_refuse: the answer of a blocked key, of which its algorithm would say v.
CREATE FUNCTION limit_refuse(k limit_work, v limit_work, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  k.granted := 0;
  k.booked_us := p_now;
  k.fence := 0;
  k.allowed := false;
  k.remaining := 0;
  k.retry_us := CASE WHEN v.retry_us < 0 THEN -1 ELSE GREATEST(k.block_until_us - p_now, v.retry_us) END;
  k.reset_us := GREATEST(k.block_until_us, v.reset_us);
  RETURN k;
END $$;

-- limit_block: admits nothing on the key for p_for from now; the later of two ends holds, and 0 lifts it.
CREATE FUNCTION limit_block(k limit_work, p_for bigint, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_for bigint := LEAST(p_for, 86400000000);
BEGIN
  k := limit_block_at(k, p_now);
  k.dirty := true;
  IF p_for = 0 THEN
    k.block_until_us := NULL;
    k.block_for_us := NULL;
  ELSIF k.block_until_us IS NULL OR k.block_until_us < p_now + v_for THEN
    k.block_until_us := p_now + v_for;
    k.block_for_us := v_for;
  END IF;
  RETURN k;
END $$;

-- limit_convert: the key under another rule of the same name: what was consumed stays consumed.
CREATE FUNCTION limit_convert(k limit_work, p_from limit_rule, p_to limit_rule, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_missing bigint;
  v_block bigint;
BEGIN
  k.dirty := true;
  IF p_from.algorithm = p_to.algorithm AND p_to.algorithm <> 1 THEN
    k.rule := p_to.id;
    RETURN k;
  END IF;
  v_block := k.block_until_us;
  k.block_until_us := NULL;
  v_missing := p_from.capacity - (limit_consume(k, 1, false, false, p_from, p_now)).remaining;
  k := limit_forget(k);
  IF v_missing > 0 AND p_from.algorithm <> 4 AND p_to.algorithm <> 4 THEN
    k := limit_consume(k, LEAST(v_missing, p_to.capacity), false, true, p_to, p_now);
  END IF;
  k.block_until_us := v_block;
  RETURN k;
END $$;

-- limit_step: does what is asked of one key besides consuming: op (see ask.ts), amount, and for a settlement the booking and what was
-- charged.
CREATE FUNCTION limit_step(k limit_work, p_op bigint, p_amount bigint, p_booked bigint, p_cost bigint, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  k.allowed := NULL;
  k.granted := 0;
  CASE p_op
    WHEN 4 THEN k := limit_settle(k, p_booked, p_cost, p_amount, p_rule, p_now);
    WHEN 5 THEN k := limit_block(k, p_amount, p_now);
    WHEN 6 THEN k := lease_renew(k, p_amount, p_rule, p_now);
    WHEN 7 THEN k := lease_release(k, p_amount, p_rule, p_now);
    ELSE
      k := limit_forget(k);
      k.block_until_us := NULL;
      k.block_for_us := NULL;
      k.dirty := true;
  END CASE;
  k.expires_us := limit_expiry(k, p_rule);
  k.allowed := NULL;
  RETURN k;
END $$;
