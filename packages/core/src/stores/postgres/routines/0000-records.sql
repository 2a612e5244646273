-- The records that the routines work on. First of all files, because everything else needs them.

-- A rule: the constants of its policy, which sql-rules.ts writes in this order.
CREATE TYPE limit_rule AS (
  id bigint,
  -- 1 token bucket, 2 sliding window, 3 fixed window, 4 concurrency
  algorithm bigint,
  capacity bigint,
  -- The period, or the term of a lease.
  period_us bigint,
  -- The limit of the rate.
  amount bigint,
  interval_us bigint,
  interval_part bigint,
  parts bigint,
  fill_us bigint,
  fill_part bigint,
  horizon_us bigint,
  cell_us bigint,
  on_calendar bigint
);

-- A key in hand: its row, and the answer to what was asked of it last.
CREATE TYPE limit_work AS (
  row_key text,
  rule bigint,
  at_us bigint,
  part bigint,
  ats bigint[],
  sums bigint[],
  ends bigint[],
  block_until_us bigint,
  block_for_us bigint,
  -- From when on the budget is as if it had never been used.
  expires_us bigint,
  -- Where its row is; null without one.
  place tid,
  -- Whether there is something to write.
  dirty boolean,
  -- The present as the sliding window holds it.
  held_us bigint,
  allowed boolean,
  granted bigint,
  remaining bigint,
  -- -1: never.
  retry_us bigint,
  reset_us bigint,
  booked_us bigint,
  fence bigint
);

-- limit_rules_of: rules from their constants, one after the other.
CREATE FUNCTION limit_rules_of(p_constants bigint[]) RETURNS limit_rule[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_rules limit_rule[] := '{}';
  c bigint[];
BEGIN
  FOR i IN 0..cardinality(p_constants) / 13 - 1 LOOP
    c := p_constants[13 * i + 1:13 * i + 13];
    v_rules := v_rules || ROW(c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9], c[10], c[11], c[12], c[13])::limit_rule;
  END LOOP;
  RETURN v_rules;
END $$;

-- limit_forget: the key without its budget, as if it had never been used.
CREATE FUNCTION limit_forget(k limit_work) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  k.rule := NULL;
  k.at_us := NULL;
  k.part := NULL;
  k.ats := NULL;
  k.sums := NULL;
  k.ends := NULL;
  k.expires_us := 0;
  RETURN k;
END $$;

-- limit_expiry: the instant from which the budget is as if it had never been used.
CREATE FUNCTION limit_expiry(k limit_work, p_rule limit_rule) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF k.rule IS NULL THEN RETURN 0; END IF;
  CASE p_rule.algorithm
    WHEN 1 THEN RETURN k.at_us + 2;
    WHEN 2 THEN RETURN COALESCE(k.ats[cardinality(k.ats)] + p_rule.period_us, 0);
    WHEN 3 THEN RETURN CASE WHEN k.part = 0 THEN 0 ELSE k.at_us + p_rule.period_us END;
    ELSE RETURN COALESCE((SELECT max(e) FROM unnest(k.ends) AS e), 0);
  END CASE;
END $$;
