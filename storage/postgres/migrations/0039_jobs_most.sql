-- A job whose upload was walked is accounted with more where its result heard more, as an answer at once would.

-- migrate:up

-- most_ms: what the bytes of the upload can hold; of older rows that is not known, and their results add nothing.
ALTER TABLE platform.jobs ADD COLUMN most_ms bigint NOT NULL DEFAULT 0;
