-- Limits of every kind: requests, bytes and audio in windows or calendar periods, requests and streams at one time; for
-- a tenant, one of its users or one of its keys, on all routes or on one.

-- migrate:up

-- calendar: '' for a window of period_ms, and for what is counted at one time, which has no period at all.
-- count is in requests, bytes or milliseconds of audio.
ALTER TABLE platform.limits
    DROP CONSTRAINT limits_pkey,
    DROP COLUMN holder,
    ALTER COLUMN period_ms DROP NOT NULL,
    ADD COLUMN user_id text,
    ADD COLUMN what text COLLATE "C" NOT NULL DEFAULT 'requests'
        CHECK (what IN ('requests', 'bytes', 'audio', 'concurrency', 'streams')),
    ADD COLUMN calendar text COLLATE "C" NOT NULL DEFAULT '' CHECK (calendar IN ('', 'day', 'month')),
    ADD COLUMN route text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN shadow boolean NOT NULL DEFAULT false;

-- "One each" as a primary key on releases before 15, which have no NULLS NOT DISTINCT. A person may be a member of
-- several tenants, and have a limit in each.
ALTER TABLE platform.limits
    ADD COLUMN holder text GENERATED ALWAYS AS (coalesce(key_id, user_id, tenant_id)) STORED,
    ADD CONSTRAINT limits_pkey PRIMARY KEY (tenant_id, holder, what, calendar, route),
    ADD CONSTRAINT limits_user_fkey FOREIGN KEY (tenant_id, user_id)
        REFERENCES platform.memberships (tenant_id, user_id) ON DELETE CASCADE,
    ADD CONSTRAINT limits_one_holder CHECK (key_id IS NULL OR user_id IS NULL),
    ADD CONSTRAINT limits_period CHECK (
        (period_ms IS NOT NULL) = (calendar = '' AND what NOT IN ('concurrency', 'streams'))
        AND (calendar = '' OR what NOT IN ('concurrency', 'streams'))
    );
DROP INDEX platform.limits_tenant_id_idx;

-- When a tenant's days and months begin.
ALTER TABLE platform.tenants
    ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC' CHECK (time_zone <> ''),
    ADD COLUMN anchor_day smallint NOT NULL DEFAULT 1 CHECK (anchor_day BETWEEN 1 AND 31);

GRANT UPDATE (count, period_ms, shadow) ON platform.limits TO platform_app;
GRANT UPDATE (time_zone, anchor_day) ON platform.tenants TO platform_app;
