-- The limits of one key, for the foreign key when a tenant leaves with all of its keys.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY limits_key_idx ON platform.limits (tenant_id, key_id) WHERE key_id IS NOT NULL;
