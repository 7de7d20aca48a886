-- The keys of one service account: for lists, and for the foreign key when a tenant leaves.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY api_keys_account_idx ON platform.api_keys (tenant_id, service_account_id, id)
    WHERE service_account_id IS NOT NULL;
