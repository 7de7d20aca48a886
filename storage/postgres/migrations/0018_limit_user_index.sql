-- The limits of one member, for the foreign key when a member leaves.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY limits_user_idx ON platform.limits (tenant_id, user_id) WHERE user_id IS NOT NULL;
