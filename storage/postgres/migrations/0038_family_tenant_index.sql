-- The log-ins of programs in a tenant that have not ended, by age.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY refresh_families_tenant_idx ON platform.refresh_families (tenant_id, id)
    WHERE ended_at IS NULL;
