-- What is done for the account once a day: when its books were last compared, and from which day on raw records are kept.

-- migrate:up

-- One row, or none when nothing has been done yet.
CREATE TABLE platform.usage_care (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    reconciled_at  timestamptz,
    differences    bigint NOT NULL DEFAULT 0,
    raw_since      timestamptz
);
COMMENT ON COLUMN platform.usage_care.raw_since IS 'raw records of days before this one were removed';
