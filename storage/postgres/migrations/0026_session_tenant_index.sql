-- The sessions of a tenant that have not ended, by age.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY sessions_tenant_idx ON platform.sessions (tenant_id, id) WHERE ended_at IS NULL;
