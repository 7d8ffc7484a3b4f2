-- The same transfer as the other contenders make, as PostgreSQL does it best: in
-- one function, so that a charge is one round trip and one transaction.

-- Half of each page is left free, so that a new version of a row finds room in
-- its page and no index has to be touched.
CREATE TABLE accounts (
  id      bigint PRIMARY KEY,
  balance bigint NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);

INSERT INTO accounts SELECT n, :credit FROM generate_series(1, :accounts) AS n;

-- About 150 bytes a row. There is no index by account, though a statement needs
-- one and ours has it: that is left out in PostgreSQL's favour.
CREATE TABLE journal (
  seq           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at            timestamptz NOT NULL DEFAULT clock_timestamp(),
  account       bigint NOT NULL,
  amount        bigint NOT NULL,
  balance       bigint NOT NULL, -- after this row
  key           uuid NOT NULL UNIQUE,
  request       uuid NOT NULL,
  api_key       bigint NOT NULL,
  input_tokens  bigint NOT NULL,
  output_tokens bigint NOT NULL,
  type          text NOT NULL,
  resource      text NOT NULL,
  model         text NOT NULL,
  tag           text NOT NULL
);

VACUUM ANALYZE accounts;

-- A key ordered by time (RFC 9562, version 7), which PostgreSQL can make itself
-- from its version 18 on only: a random one with the time in its first 48 bits.
CREATE FUNCTION key_of_now() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
      PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
      FROM 1 FOR 6),
    52, 1), 53, 1), 'hex')::uuid
$$;

-- Revenue is not updated here: as one row it would have all charges wait for each
-- other, however many accounts they are spread over. The journal has what is
-- needed to sum it up. Ours keeps it with every charge.
CREATE FUNCTION charge(who bigint, cost bigint, idempotency uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  remaining bigint;
BEGIN
  UPDATE accounts SET balance = balance - cost
    WHERE id = who AND balance >= cost
    RETURNING balance INTO remaining;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'account % does not have %', who, cost;
  END IF;
  -- A key that was used before is refused by its index, and all of this undone.
  INSERT INTO journal (account, amount, balance, key, request, api_key, input_tokens, output_tokens, type, resource, model, tag)
    VALUES (who, cost, remaining, idempotency, idempotency, 7, 100, 200, 'api_usage', 'model/llama', 'llama', 'web');
  RETURN remaining;
END
$$;

-- A server that has run for a while writes its log into segments that it has
-- used before. A new one would have to make each of them first, in the middle of
-- a measurement; so 32 of 16 MiB are used up here and set free for what follows.
SELECT count(pg_logical_emit_message(false, 'bench', 'fill')), count(pg_switch_wal())
  FROM generate_series(1, 32) \g /dev/null
CHECKPOINT;
