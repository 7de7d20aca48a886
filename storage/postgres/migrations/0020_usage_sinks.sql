-- Where usage records go beside the account, and what each of these places has not taken yet.

-- migrate:up

CREATE TABLE platform.usage_sinks (
    name        text PRIMARY KEY,
    held_by     text NOT NULL DEFAULT '',
    held_until  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN platform.usage_sinks.held_by IS 'the replica that sends, until held_until';

-- A row for each sink and each transaction that books records, written in that transaction: what is committed is
-- listed, however transactions overtake each other, and no order of rows has to be trusted. The records themselves are
-- in usage_events: those that have this recorded_at, which is the time of the transaction.
-- No foreign key: a sink that is taken out of the settings must not fail a transaction that books.
CREATE TABLE platform.usage_unsent (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sink         text NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    first_ended  timestamptz NOT NULL,
    last_ended   timestamptz NOT NULL,
    records      integer NOT NULL
);
CREATE INDEX usage_unsent_sink_idx ON platform.usage_unsent (sink, id);
