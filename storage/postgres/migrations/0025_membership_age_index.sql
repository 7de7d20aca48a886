-- The members of a tenant by the time for which they are that: a page of them is a piece of this index.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY memberships_age_idx ON platform.memberships (tenant_id, created_at, user_id);
