-- Whose the jobs are that a service works on: their ids are learnt from its answers.

-- migrate:up

-- No foreign keys: like the account, a job outlives the key and the user that made it.
-- kind: the namespace of the id, by the route table. settled_at: its audio is accounted, all of it and once.
CREATE TABLE platform.jobs (
    kind          text COLLATE "C" NOT NULL,
    job_id        text COLLATE "C" NOT NULL,
    tenant_id     text COLLATE "C" NOT NULL CHECK (tenant_id <> ''),
    key_id        text COLLATE "C" NOT NULL,
    user_id       text COLLATE "C" NOT NULL,
    route         text COLLATE "C" NOT NULL,
    accounted_ms  bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    settled_at    timestamptz,
    contested_at  timestamptz,
    PRIMARY KEY (kind, job_id)
);
COMMENT ON COLUMN platform.jobs.contested_at IS 'another tenant was given the same id: from then on it is nobody''s';
CREATE INDEX jobs_expires_at_idx ON platform.jobs (expires_at);

ALTER TABLE platform.jobs ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON platform.jobs TO platform_app
    USING (tenant_id = nullif(current_setting('platform.tenant', true), ''));
GRANT SELECT ON platform.jobs TO platform_app;
