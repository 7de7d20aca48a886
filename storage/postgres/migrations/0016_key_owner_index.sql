-- The keys of one member: for lists, and for the foreign key when a member or a tenant leaves.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY api_keys_owner_idx ON platform.api_keys (tenant_id, user_id, id) WHERE user_id IS NOT NULL;
