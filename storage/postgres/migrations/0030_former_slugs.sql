-- Slugs of tenants that were removed: a new tenant of the same slug does not inherit the guests of the old one.

-- migrate:up

CREATE TABLE platform.former_slugs (
    slug       text COLLATE "C" CONSTRAINT former_slugs_pkey PRIMARY KEY CHECK (slug <> ''),
    purged_at  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO platform.former_slugs (slug, purged_at)
    SELECT target_name, max(at) FROM platform.audit_entries
    WHERE action = 'tenant.purged' AND target_name <> '' GROUP BY target_name;

-- Operators' alone, like the issuers that it is for.
ALTER TABLE platform.former_slugs ENABLE ROW LEVEL SECURITY;
