-- Jobs whose audio was uploaded may fail later, or turn out shorter than was estimated: the account takes back then.

-- migrate:up

-- job: 'kind:id', of the request that a service made a job of, and of the records that correct what that accounted.
-- before_ms: of those, what had been accounted before; audio_ms is what they add to it, or below 0 what they take back.
ALTER TABLE platform.usage_events
    ADD COLUMN job        text NOT NULL DEFAULT '',
    ADD COLUMN before_ms  bigint;

-- floor_ms: what was walked of the upload; no result makes it less.
-- counted: the limits of audio that the upload was counted in, to be given back. lower_*: what the job comes to by its
-- result, where that is less than was accounted; booked as soon as the account has the record of the upload.
ALTER TABLE platform.jobs
    ADD COLUMN floor_ms       bigint NOT NULL DEFAULT 0,
    ADD COLUMN model          text NOT NULL DEFAULT '',
    ADD COLUMN channels       integer,
    ADD COLUMN counted        jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN lower_ms       bigint,
    ADD COLUMN lower_outcome  text,
    ADD COLUMN lower_at       timestamptz;
CREATE INDEX jobs_lower_at_idx ON platform.jobs (lower_at) WHERE settled_at IS NULL AND lower_at IS NOT NULL;
