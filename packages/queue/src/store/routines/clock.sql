-- now_us() -> this server's clock in microseconds since 1970. Not now(): that is the transaction's start.
CREATE OR REPLACE FUNCTION now_us() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- clock_read: the clock as a number that every driver reads alike.
CREATE OR REPLACE FUNCTION clock_read() RETURNS double precision
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  RETURN now_us();
END $$;

-- wake: tells idle workers that a queue has something to start, now or on a timer. Delivered at the commit.
CREATE OR REPLACE FUNCTION wake(p_queue integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('sluice.' || current_schema(), 'wake:' || p_queue);
END $$;
