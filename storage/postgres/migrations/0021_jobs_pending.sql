-- Jobs whose result nobody asks for: the gateway asks itself, and at last writes down that their audio is not known.

-- migrate:up

-- pending: the account has nothing of the job's audio yet but that it is to come. Of older rows that is not known.
ALTER TABLE platform.jobs
    ADD COLUMN pending  boolean NOT NULL DEFAULT false,
    ADD COLUMN ask_at   timestamptz;
COMMENT ON COLUMN platform.jobs.ask_at IS 'when the gateway asks for the result itself, as long as the job is not settled';
CREATE INDEX jobs_ask_at_idx ON platform.jobs (ask_at) WHERE settled_at IS NULL AND ask_at IS NOT NULL;
