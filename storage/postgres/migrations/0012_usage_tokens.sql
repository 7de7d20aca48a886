-- What an upstream that counts in tokens says that a request used. NULL where it said nothing.

-- migrate:up

ALTER TABLE platform.usage_events
    ADD COLUMN input_tokens   bigint,
    ADD COLUMN output_tokens  bigint;
