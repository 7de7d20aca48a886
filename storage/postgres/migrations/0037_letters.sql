-- Letters that nobody waits for, from the change that they tell of until they have left or are given up.

-- migrate:up

-- sealed: address, subject and text, among which are links that sign people in; the key is in no database.
CREATE TABLE platform.letters (
    id          text PRIMARY KEY CHECK (id LIKE 'ltr\_%'),
    sealed      bytea NOT NULL,
    tries       integer NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX letters_next_at_idx ON platform.letters (next_at);

-- No tenant's scope sees any.
ALTER TABLE platform.letters ENABLE ROW LEVEL SECURITY;
