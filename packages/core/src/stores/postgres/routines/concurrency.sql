-- Concurrency, as algorithms/concurrency.ts has it. The leases are in step in ats (fences, ascending), sums (slots) and ends; the last
-- fence ever given is at_us.

-- lease_consume: the leases as of now, what a request for slots is answered, and, if it is admitted and p_debit, one lease more.
CREATE FUNCTION lease_consume(k limit_work, p_cost bigint, p_up_to boolean, p_debit boolean, p_rule limit_rule, p_now bigint)
RETURNS limit_work LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_cost bigint := CASE WHEN p_up_to THEN 1 ELSE p_cost END;
  v_held bigint := 0;
  v_missing bigint;
  v_last bigint := p_now;
BEGIN
  IF cardinality(k.ats) > 0 THEN
    k.dirty := k.dirty OR EXISTS (SELECT FROM unnest(k.ends) AS e WHERE e <= p_now);
    -- A clock set back by more than a term would lengthen leases by as much: they hold for a term from now instead.
    IF EXISTS (SELECT FROM unnest(k.ends) AS e WHERE e > p_now + 2 * p_rule.period_us) THEN
      k.ends := ARRAY(SELECT CASE WHEN u.e > p_now + 2 * p_rule.period_us THEN p_now + p_rule.period_us ELSE u.e END
        FROM unnest(k.ends) WITH ORDINALITY AS u (e, ord) ORDER BY u.ord);
      k.dirty := true;
    END IF;
    SELECT array_agg(u.fence ORDER BY u.ord), array_agg(u.slots ORDER BY u.ord), array_agg(u.e ORDER BY u.ord),
      COALESCE(sum(u.slots), 0), COALESCE(max(u.e), p_now)
    INTO k.ats, k.sums, k.ends, v_held, v_last
    FROM unnest(k.ats, k.sums, k.ends) WITH ORDINALITY AS u (fence, slots, e, ord) WHERE u.e > p_now;
  END IF;
  k.remaining := GREATEST(0, p_rule.capacity - v_held);
  k.allowed := v_held + v_cost <= p_rule.capacity;
  k.reset_us := v_last;
  k.retry_us := 0;
  IF v_cost > p_rule.capacity THEN
    k.retry_us := -1;
  ELSIF NOT k.allowed THEN
    -- When leases of as many slots as are missing will have run out.
    v_missing := v_held + v_cost - p_rule.capacity;
    k.retry_us := (SELECT min(l.e) - p_now FROM (
      SELECT u.e, sum(u.slots) OVER (ORDER BY u.e ROWS UNBOUNDED PRECEDING) AS gone FROM unnest(k.sums, k.ends) AS u (slots, e)
    ) l WHERE l.gone >= v_missing);
  END IF;
  IF NOT p_debit OR NOT k.allowed THEN RETURN k; END IF;
  IF p_up_to THEN v_cost := LEAST(p_cost, k.remaining); END IF;
  k.rule := p_rule.id;
  k.dirty := true;
  k.granted := v_cost;
  -- Not a mere count: it goes on rising after the row has gone, as long as the clock does.
  k.fence := GREATEST(COALESCE(k.at_us, 0) + 1, p_now);
  k.at_us := k.fence;
  k.ats := k.ats || k.fence;
  k.sums := k.sums || v_cost;
  k.ends := k.ends || (p_now + p_rule.period_us);
  k.booked_us := p_now;
  k.remaining := k.remaining - v_cost;
  k.reset_us := GREATEST(k.reset_us, p_now + p_rule.period_us);
  k.expires_us := k.reset_us;
  RETURN k;
END $$;

-- lease_renew: extends a lease to a full term from now; granted is its new end, or -1 when it is no longer held.
CREATE FUNCTION lease_renew(k limit_work, p_fence bigint, p_rule limit_rule, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_lease integer;
BEGIN
  k := lease_consume(k, 1, false, false, p_rule, p_now);
  v_lease := array_position(k.ats, p_fence);
  k.granted := -1;
  IF v_lease IS NOT NULL THEN
    k.ends[v_lease] := p_now + p_rule.period_us;
    k.granted := k.ends[v_lease];
    k.dirty := true;
  END IF;
  RETURN k;
END $$;

-- lease_release: gives the slots of a lease back; granted is 1, or -1 when it is no longer held.
CREATE FUNCTION lease_release(k limit_work, p_fence bigint, p_rule limit_rule, p_now bigint) RETURNS limit_work
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_lease integer;
BEGIN
  k := lease_consume(k, 1, false, false, p_rule, p_now);
  v_lease := array_position(k.ats, p_fence);
  k.granted := -1;
  IF v_lease IS NOT NULL THEN
    k.ats := k.ats[:v_lease - 1] || k.ats[v_lease + 1:];
    k.sums := k.sums[:v_lease - 1] || k.sums[v_lease + 1:];
    k.ends := k.ends[:v_lease - 1] || k.ends[v_lease + 1:];
    k.granted := 1;
    k.dirty := true;
  END IF;
  RETURN k;
END $$;
