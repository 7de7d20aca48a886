-- The invitations of a tenant, by age, those that are over included.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY invitations_tenant_idx ON platform.invitations (tenant_id, id);
