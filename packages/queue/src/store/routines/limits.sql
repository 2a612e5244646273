-- limit_advance: a limit as of now, before p_room starts are granted under it: not in the past, no deeper in debt than it can be, and
-- with what it owes paid in time.
-- A grant may be used late by what the guard covers. When answers take longer than that, a claim asks for patience on top. It gets
-- it only if the schedule had run dry, and the limit then owes a pause as long: as long as it comes before `amount` further starts,
-- starts i and i + amount still lie period + guard + patience apart. Idle stretches pay it by themselves; failing that, the
-- schedule is put off before the last of those starts.
CREATE OR REPLACE FUNCTION limit_advance(p_limit limits, p_now bigint, p_room integer, p_patience bigint) RETURNS limits
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_idle bigint := p_now - p_limit.tat_us;
BEGIN
  IF p_limit.tat_us <> limit_tat(p_limit, p_now) THEN
    p_limit.tat_us := limit_tat(p_limit, p_now);
    p_limit.tat_rem := 0;
  END IF;
  p_limit.patience_us := CASE WHEN v_idle > 0 AND p_room < p_limit.amount THEN p_patience ELSE 0 END;
  p_limit.owed_us := GREATEST(0, p_limit.owed_us - GREATEST(0, v_idle));
  IF p_limit.owed_us = 0 THEN
    p_limit.owed_starts := 0;
  ELSIF p_limit.owed_starts + p_room >= p_limit.amount THEN
    p_limit.tat_us := p_limit.tat_us + p_limit.owed_us;
    p_limit.owed_us := 0;
    p_limit.owed_starts := 0;
    p_limit.patience_us := 0;
  END IF;
  RETURN p_limit;
END $$;

-- limit_tat: a limit's theoretical arrival time as of now: not in the past, and no deeper in debt than it can be.
CREATE OR REPLACE FUNCTION limit_tat(p_limit limits, p_now bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN GREATEST(p_now, LEAST(COALESCE(p_limit.tat_us, 0),
    p_now + deepest_debt(p_limit.interval_num, p_limit.interval_den, p_limit.burst)));
END $$;

-- slots_until: how many starts a limit's schedule has up to now + horizon, at most p_want. An upper bound: claim checks each start.
CREATE OR REPLACE FUNCTION slots_until(p_limit limits, p_now bigint, p_horizon bigint, p_want integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF p_limit.id IS NULL THEN RETURN p_want; END IF;
  RETURN LEAST(p_want, GREATEST(0, floor(
    (p_now + p_horizon + ((p_limit.burst - 1) * p_limit.interval_num) / p_limit.interval_den - limit_tat(p_limit, p_now))::float8
    * p_limit.interval_den / p_limit.interval_num + 1)));
END $$;

-- deepest_debt: how far a schedule can lie ahead of the clock: the burst, the longest horizon (10 s) and two intervals. Deeper means
-- that the clock was set back, and nobody shall wait for the future it came from.
CREATE OR REPLACE FUNCTION deepest_debt(p_num bigint, p_den bigint, p_burst bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN 10000000 + ((COALESCE(p_burst, 1) - 1) * COALESCE(p_num, 0)) / COALESCE(p_den, 1) + 2 * (COALESCE(p_num, 0) / COALESCE(p_den, 1) + 1);
END $$;
