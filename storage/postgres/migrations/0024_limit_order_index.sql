-- The limits of a tenant in the order of their list: a page of it is a piece of this index.

-- migrate:up transaction:false

CREATE INDEX CONCURRENTLY limits_order_idx ON platform.limits
    (tenant_id, (coalesce(key_id, '')), (coalesce(user_id, '')), route, what, calendar);
